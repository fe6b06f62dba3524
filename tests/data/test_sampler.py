"""The order of an epoch, alone and with several ranks; the ranks are simulated."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning_transfer.data import sampler as module
from lightning_transfer.data.sampler import EpochSampler


def order(num_samples, seed=0, epoch=0, shuffle=True):
    sampler = EpochSampler(num_samples, seed, shuffle)
    sampler.set_epoch(epoch)
    return list(sampler)


def shares(num_samples, ranks, **arguments):
    """What each of so many ranks draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.dist, "is_initialized", lambda: True)
        patch.setattr(module.dist, "get_world_size", lambda: ranks)
        drawn = []
        for rank in range(ranks):
            patch.setattr(module.dist, "get_rank", lambda rank=rank: rank)
            sampler = EpochSampler(num_samples, **arguments)
            drawn.append(list(sampler))
            assert len(sampler) == len(drawn[-1]), "a progress bar would be wrong"
    return drawn


@given(st.integers(1, 500), st.integers(0, 2**63), st.integers(0, 10_000))
def test_an_epoch_takes_every_sample_once(num_samples, seed, epoch):
    drawn = order(num_samples, seed, epoch)
    assert sorted(drawn) == list(range(num_samples))
    assert all(type(index) is int for index in drawn)


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    expected = order(50, seed=3, epoch=4)
    sampler = EpochSampler(50, seed=3, shuffle=True)
    for epoch in (0, 7, 4):  # other epochs before, one of them left half-way
        sampler.set_epoch(epoch)
        next(iter(sampler))
    np.random.seed(1)
    assert list(sampler) == list(sampler) == expected


def test_orders_differ_between_epochs_and_between_seeds():
    orders = {tuple(order(20, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_each_place_is_as_likely_for_each_sample():
    counts = np.zeros((5, 5))
    for epoch in range(2000):
        counts[np.arange(5), order(5, epoch=epoch)] += 1
    # 400 expected in each cell, standard deviation 18.
    assert np.abs(counts - 400).max() < 90


@pytest.mark.parametrize("epoch", [0, 5])
def test_without_shuffling_the_order_is_that_of_the_samples(epoch):
    assert order(7, seed=9, epoch=epoch, shuffle=False) == [0, 1, 2, 3, 4, 5, 6]


@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 99))
@example(num_samples=2, ranks=9, seed=0)
@settings(deadline=None)
def test_training_shares_are_equally_long_and_cover_everything(num_samples, ranks, seed):
    drawn = shares(num_samples, ranks, seed=seed, shuffle=True)
    assert {len(share) for share in drawn} == {-(-num_samples // ranks)}
    assert {index for share in drawn for index in share} == set(range(num_samples))


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
@settings(deadline=None)
def test_ranks_see_together_what_one_process_sees_with_larger_batches(ranks, batch, batches, seed):
    total = ranks * batch * batches
    drawn = shares(total, ranks, seed=seed, shuffle=True)
    alone = order(total, seed)
    for start in range(0, batch * batches, batch):
        together = {index for share in drawn for index in share[start : start + batch]}
        assert together == set(alone[start * ranks : (start + batch) * ranks])


@given(st.integers(0, 200), st.integers(1, 9))
@example(num_samples=2, ranks=9)
@settings(deadline=None)
def test_evaluation_shares_are_disjoint_and_count_each_sample_once(num_samples, ranks):
    drawn = shares(num_samples, ranks, shuffle=False)
    assert sorted(index for share in drawn for index in share) == list(range(num_samples))
    assert all(share == sorted(share) for share in drawn)
