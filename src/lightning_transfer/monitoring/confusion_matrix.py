"""Which class is taken for which.

Shapes: K classes, N samples.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from lightning_transfer.monitoring.validation import ValidationDrawing, class_names_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class ConfusionMatrix(ValidationDrawing):
    """Draws torchmetrics' own plot of the validation images' confusion matrix, under IMAGES."""

    def draw_validation(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        writer: SummaryWriter,
        probabilities: Tensor,
        labels: Tensor,
    ) -> None:
        """See `ValidationDrawing`."""
        classes = probabilities.shape[1]
        # All processes' samples are here, and the others do not wait at this place.
        metric = MulticlassConfusionMatrix(classes, sync_on_compute=False)
        metric.update(probabilities, labels)
        with warnings.catch_warnings():
            # torchmetrics hands matplotlib a tensor, whose conversion to NumPy 2 warns.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            figure, _ = metric.plot(labels=list(class_names_of(trainer, pl_module, classes)))
        writer.add_figure("confusion_matrix", figure, trainer.global_step)  # closes it
