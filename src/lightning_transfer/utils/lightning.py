"""Small helpers around Lightning's Trainer."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.tuner.lr_finder import _LRCallback

Kind = TypeVar("Kind", bound=Callback)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's info messages, such as the devices that each Trainer lists; warnings stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the Trainer's own list of callbacks, in the order in which they are called."""
    found: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector of the Trainer
    return found


def find_callbacks(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    """Return the Trainer's callbacks of one class."""
    return [callback for callback in callbacks_of(trainer) if isinstance(callback, kind)]


def learning_rates(trainer: Trainer) -> dict[int, float]:
    """Return learning rates by the parameter's `id`, over all optimizers; by value, fresh layers may be equal."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {id(parameter): float(group["lr"]) for group in groups for parameter in group["params"]}


def steps_per_epoch(trainer: Trainer) -> int:
    """Return the optimizer steps of an epoch of training; 0 where the loader has no length."""
    batches = trainer.num_training_batches
    return 0 if math.isinf(batches) else math.ceil(batches / trainer.accumulate_grad_batches)


def finds_rate(trainer: Trainer) -> bool:
    """Return whether a learning-rate finder is running, which tries rates until the loss explodes."""
    return bool(find_callbacks(trainer, _LRCallback))
