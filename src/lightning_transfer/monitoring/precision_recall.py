"""How precision falls as recall grows, a curve a class.

Shapes: K classes, N samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_transfer.monitoring.validation import ValidationDrawing, class_names_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class PrecisionRecall(ValidationDrawing):
    """Draws a precision-recall curve for each class against the others, under PR CURVES."""

    def draw_validation(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        writer: SummaryWriter,
        probabilities: Tensor,
        labels: Tensor,
    ) -> None:
        """See `ValidationDrawing`."""
        for label, name in enumerate(class_names_of(trainer, pl_module, probabilities.shape[1])):
            curve = labels == label, probabilities[:, label]
            writer.add_pr_curve(f"precision_recall/{name}", *curve, global_step=trainer.global_step)
