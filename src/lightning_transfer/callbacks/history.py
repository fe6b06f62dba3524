"""The scores of each epoch, as plain numbers."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class History(Callback):
    """Keeps what was logged in each epoch of a fit, and how long its epochs took.

    It travels in checkpoints, so that a run that was stopped and goes on has the whole history.

    Attributes:
        epochs: Name and value of every score, an epoch each.
        seconds: Of all epochs so far, with their validations.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0
        self._start = 0.0
        self._ended: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A new fit begins with an empty history; one that is resumed gets its own back after this."""
        if stage == "fit":
            self.epochs, self.seconds, self._ended = [], 0.0, None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._take()
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock; a module logs some of the scores only after this."""
        self.seconds += time.perf_counter() - self._start
        self._ended = trainer

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the scores of the last epoch."""
        self._take()

    def state_dict(self) -> dict[str, Any]:
        """Plain values; those of the epoch that has just ended, too."""
        self._take()
        return {"epochs": self.epochs, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with an earlier history."""
        self.epochs, self.seconds = list(state_dict["epochs"]), state_dict["seconds"]

    def _take(self) -> None:
        if self._ended is not None:
            self.epochs.append({name: float(value) for name, value in self._ended.callback_metrics.items()})
            self._ended = None
