"""The callbacks that a Trainer has."""

from __future__ import annotations

from typing import TypeVar

from lightning.pytorch import Callback, Trainer

Kind = TypeVar("Kind", bound=Callback)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """All of them, in the order in which they are called; the Trainer's own list."""
    found: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a part of the Trainer
    return found


def present(trainer: Trainer, kind: type[Kind]) -> list[Kind]:
    """Those of one class."""
    return [callback for callback in callbacks_of(trainer) if isinstance(callback, kind)]
