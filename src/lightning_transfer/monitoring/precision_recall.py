"""How precision falls as recall grows, one curve for each class.

Shapes: K classes, N samples.
"""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_transfer.monitoring.plot_callback import tensorboard
from lightning_transfer.monitoring.validation_plot import ValidationPlot, class_names_of


class PrecisionRecall(ValidationPlot):
    """Plot a precision-recall curve for each class against the others, under PR CURVES."""

    tensorboard_only = True

    def plot_validation(
        self, trainer: Trainer, pl_module: LightningModule, probabilities: Tensor, labels: Tensor
    ) -> None:
        """See `ValidationPlot`."""
        writer = tensorboard(trainer)
        assert writer is not None  # checked when the fit started
        for label, name in enumerate(class_names_of(trainer, pl_module, probabilities.shape[1])):
            truth = labels == label if labels.ndim == 1 else labels[:, label]
            writer.add_pr_curve(f"precision_recall/{name}", truth, probabilities[:, label], trainer.global_step)
