"""Keep the scores of each epoch, as numbers, a table and a figure."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_transfer.monitoring.loggers import log_figure, takes_figures
from lightning_transfer.utils.files import whole_file


class History(Callback):
    """Keep what each epoch of a fit logged, and how long it took.

    Beside the checkpoints it leaves `metrics.csv`, which grows with each epoch, and at the end `curves.png`;
    nothing where the Trainer saves no checkpoints. It travels in checkpoints, so that a run that was stopped and
    goes on has the whole history. The modules of this library bring one along.

    Attributes:
        epochs: Name and value of every score, an epoch each.
        seconds: Of all epochs so far, with their validations.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.seconds = 0.0
        self._start = 0.0
        self._ended: Trainer | None = None
        self._validation: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin with an empty history, unless this Trainer goes on from where an earlier fit of it has ended.

        A run that is resumed from a checkpoint gets its own back after this.
        """
        if stage != "fit":
            return
        self._ended, self._validation = None, {}
        if trainer.current_epoch == 0:
            self.epochs, self.seconds = [], 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._take()
        self._start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the validation scores: a run resumed from a checkpoint made now does not validate again."""
        if not trainer.sanity_checking:
            scores = trainer.callback_metrics.items()
            self._validation = {name: float(value) for name, value in scores if name.startswith("val")}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock; modules log some scores only after this."""
        self.seconds += time.perf_counter() - self._start
        self._ended = trainer

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the scores of the last epoch, and plot the curves."""
        self._take()
        if self.epochs:
            self._write(trainer)  # after the first epoch its folder was not there yet
        self._draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Plot the curves so far."""
        self._take()
        self._draw(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Plain values; those of the epoch that has just ended, too."""
        self._take()
        return {"epochs": self.epochs, "seconds": self.seconds, "validation": self._validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue an earlier history."""
        self.epochs, self.seconds = list(state_dict["epochs"]), state_dict["seconds"]
        self._validation = dict(state_dict["validation"])

    def _take(self) -> None:
        if self._ended is not None:
            logged = {name: float(value) for name, value in self._ended.callback_metrics.items()}
            self.epochs.append(self._validation | logged)
            self._validation = {}
            self._write(self._ended)
            self._ended = None

    def _write(self, trainer: Trainer) -> None:
        folder = _checkpoint_folder(trainer)
        if folder is None:
            return
        names = sorted({name for epoch in self.epochs for name in epoch})
        with whole_file(folder / "metrics.csv") as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["epoch", *names], lineterminator="\n")
            writer.writeheader()
            writer.writerows({"epoch": number, **scores} for number, scores in enumerate(self.epochs))

    def _draw(self, trainer: Trainer) -> None:
        folder = _checkpoint_folder(trainer)
        if folder is None or not any("validation/loss" in epoch for epoch in self.epochs):
            return
        # Only here: matplotlib takes half a second to import.
        from lightning_transfer.monitoring.figures import curves

        figure = curves({"": self.epochs})
        with whole_file(folder / "curves.png") as beside:
            figure.savefig(beside, format="png", dpi=120)
        for logger in filter(takes_figures, trainer.loggers):
            log_figure(logger, "learning_curves", figure, trainer.global_step)


def _checkpoint_folder(trainer: Trainer) -> Path | None:
    """Return rank 0's checkpoint folder; None on other ranks, and before there is one."""
    callback = trainer.checkpoint_callback
    if not trainer.is_global_zero or not isinstance(callback, ModelCheckpoint) or callback.dirpath is None:
        return None
    folder = Path(callback.dirpath)
    return folder if folder.is_dir() else None
