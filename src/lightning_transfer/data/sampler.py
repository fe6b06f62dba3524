"""In which order the samples of an epoch come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch.utils.data import DistributedSampler, SequentialSampler

Place = int | tuple[int, int]  # of a sample: (epoch, index); an index alone is in epoch 0


class EpochSampler(DistributedSampler[Any]):
    """An order that is a function of (seed, epoch) alone, shared out among the ranks.

    Nothing else enters: not the number of workers, not the batches before, not a stop between. Lightning calls
    `set_epoch`. In training the ranks' shares are made equal by taking some samples twice, and R ranks with
    batches of B see together what one process with batches of R·B sees. In evaluation nothing is repeated,
    so that metrics count each sample once (https://github.com/Lightning-AI/pytorch-lightning/issues/3325).

    Args:
        num_samples: N, the length of the data set.
        seed: Not negative.
        shuffle: Whether it is for training.

    >>> sampler = EpochSampler(5, seed=0, shuffle=True)
    >>> first = list(sampler)
    >>> sampler.set_epoch(1)
    >>> first != list(sampler)
    True
    """

    def __init__(self, num_samples: int, seed: int = 0, shuffle: bool = False) -> None:
        spread = dist.is_available() and dist.is_initialized()
        super().__init__(
            range(num_samples),  # type: ignore[arg-type]  # it needs a length alone
            num_replicas=dist.get_world_size() if spread else 1,
            rank=dist.get_rank() if spread else 0,
            shuffle=shuffle,
            seed=seed,
        )
        self.length = num_samples
        if not shuffle:
            self.num_samples = len(range(self.rank, num_samples, self.num_replicas))

    def follow(self, trainer: Trainer | None) -> None:
        """Take the epoch that a Trainer is about to run, which after a resume is not the first.

        Lightning calls `set_epoch` only after it has made the iterator, whose workers draw batches at once.
        """
        if trainer is not None:
            self.set_epoch(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Any]:
        """The indices of this rank, in the order of the current epoch."""
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
            order = np.resize(order, self.total_size)
        return iter(order[self.rank :: self.num_replicas].tolist())


class EpochIndexSampler(EpochSampler):
    """The same order as (epoch, index), for a data set whose items change with the epoch."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over this rank's share of the current epoch."""
        return ((self.epoch, index) for index in super().__iter__())


class InOrderSampler(EpochSampler, SequentialSampler):
    """The samples in their own order, for evaluation, shared out among the ranks, each sample once.

    Lightning leaves it in place: under `overfit_batches` since it is a SequentialSampler, under several processes
    since it is a DistributedSampler.
    """

    def __init__(self, num_samples: int) -> None:
        super().__init__(num_samples, shuffle=False)


def epoch_and_index(place: Place) -> tuple[int, int]:
    """Return the epoch and the index of a sample that is asked for.

    >>> epoch_and_index((3, 7)), epoch_and_index(7)
    ((3, 7), (0, 7))
    """
    return place if isinstance(place, tuple) else (0, place)
