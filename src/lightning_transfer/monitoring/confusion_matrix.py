"""Which class is taken for which.

Shapes: K classes, N samples.
"""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix, multilabel_confusion_matrix

from lightning_transfer.monitoring.validation_plot import ValidationPlot, class_names_of, predicted

MOST_LABELS = 24  # of several labels an image


class ConfusionMatrix(ValidationPlot):
    """Plot the confusion matrix of the validation images.

    With several labels an image there is a 2 × 2 matrix for each label, of at most 24 labels: those with the most
    errors.
    """

    def plot_validation(
        self, trainer: Trainer, pl_module: LightningModule, probabilities: Tensor, labels: Tensor
    ) -> None:
        """See `ValidationPlot`."""
        from lightning_transfer.monitoring.figures import confusion_figure  # only here: it takes long to import

        classes = probabilities.shape[1]
        names = class_names_of(trainer, pl_module, classes)
        predictions = predicted(probabilities, labels)
        if labels.ndim == 1:
            counts = multiclass_confusion_matrix(predictions, labels, classes)
            figure = confusion_figure({"": counts.numpy()}, names)
        else:
            counts = multilabel_confusion_matrix(predictions, labels, classes)
            errors = counts[:, 0, 1] + counts[:, 1, 0]
            most = errors.argsort(descending=True, stable=True)[:MOST_LABELS].tolist()
            figure = confusion_figure({names[label]: counts[label].numpy() for label in most}, ("no", "yes"))
        self.log_figure(trainer, "confusion_matrix", figure)
