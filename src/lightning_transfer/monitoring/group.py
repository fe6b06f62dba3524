"""Several drawings as one callback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_transfer.monitoring.drawing import Drawing


class DrawingGroup(Callback):
    """Passes on to drawings what they ask for.

    A Trainer calls every hook of every callback around every step; where that takes three milliseconds, eight more
    callbacks cost a twentieth of it.

    Args:
        drawings: What is drawn.
    """

    def __init__(self, drawings: Sequence[Drawing]) -> None:
        self.drawings = tuple(drawings)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See `Drawing`."""
        for drawing in self.drawings:
            drawing.setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Hyperparameters`."""
        for drawing in self.drawings:
            drawing.on_train_start(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `ValidationDrawing`."""
        for drawing in self.drawings:
            drawing.on_validation_epoch_start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """See `ValidationDrawing`."""
        for drawing in self.drawings:
            drawing.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `FeatureProjector`."""
        for drawing in self.drawings:
            drawing.on_validation_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Drawing`."""
        for drawing in self.drawings:
            drawing.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `Drawing`."""
        for drawing in self.drawings:
            drawing.on_train_end(trainer, pl_module)
