"""In which order a loader serves a data set: new in each epoch, fixed and mixed, or as it is."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, TypeVar, cast

import numpy as np
from lightning.pytorch import Trainer
from torch.utils.data import Dataset, Sampler, SequentialSampler, Subset

from lightning_transfer.data.sampler import EpochIndexSampler, EpochSampler, InOrderSampler

Sample = TypeVar("Sample", covariant=True)


class FixedOrder(Subset[Sample]):
    """A data set in a mixed order, which is a function of its length alone.

    Classes stand one after the other in most folders; here the first batches have some of each. Item i is item
    `indices[i]` of `dataset`.
    """

    def __init__(self, dataset: Dataset[Sample]) -> None:
        order = np.random.default_rng(0).permutation(len(cast(Sized, dataset)))
        super().__init__(dataset, order.tolist())


def in_order(
    dataset: Dataset[Any], trainer: Trainer | None, split: str, seed: int, shuffle: bool, by_epoch: bool
) -> tuple[Dataset[Any], Sampler[Any]]:
    """Return what a loader serves, and its sampler.

    Training is shuffled by (seed, epoch). Under `overfit_batches` each epoch has the same batches: a fixed mixed
    order, by plain indices. Validation has that order too; the other splits stay as they are. Under several
    processes evaluation takes each sample once.

    Args:
        dataset: The split's.
        trainer: Whose epochs are counted; None for none.
        split: Its name.
        seed: Of the shuffling.
        shuffle: Whether it is for training.
        by_epoch: Whether training asks for (epoch, index), since items change with the epoch.
    """
    if shuffle and trainer is not None and trainer.overfit_batches > 0:  # type: ignore[attr-defined]
        fixed = FixedOrder(dataset)
        return fixed, SequentialSampler(fixed)  # Lightning replaces any other one
    length = len(cast(Sized, dataset))
    if shuffle:
        sampler = (EpochIndexSampler if by_epoch else EpochSampler)(length, seed, shuffle=True)
        sampler.follow(trainer)
        return dataset, sampler
    return FixedOrder(dataset) if split == "validation" else dataset, InOrderSampler(length)
