"""The images that a network is most certain of, and wrong.

Shapes: K classes, N samples.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_transfer.monitoring.images import validation_images
from lightning_transfer.monitoring.validation_plot import ValidationPlot, class_names_of, label_texts, predicted


class WrongImages(ValidationPlot):
    """Show the validation images that are most confidently wrong.

    Mislabelled images are often among them. Each caption gives the file, the class, and what it was taken for.

    Args:
        count: How many at most.
        every_n_epochs: As for `PlotCallback`.
    """

    def __init__(self, count: int = 12, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self.count = count

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for images."""
        validation_images(trainer, type(self).__name__)

    def plot_validation(
        self, trainer: Trainer, pl_module: LightningModule, probabilities: Tensor, labels: Tensor
    ) -> None:
        """See `ValidationPlot`."""
        from lightning_transfer.monitoring.figures import gallery  # only here: it takes long to import

        images = validation_images(trainer, type(self).__name__)
        names = class_names_of(trainer, pl_module, probabilities.shape[1])
        certainty = certainty_of_wrong(probabilities, labels)
        wrong = int((certainty > 0).sum())
        worst = certainty.argsort(descending=True, stable=True)[: min(self.count, wrong)]
        truths = label_texts(labels[worst], names)
        predictions = label_texts(predicted(probabilities, labels)[worst], names)
        captions = [
            f"{PurePosixPath(images.samples.paths[i]).name}\n{truth}, taken for {prediction}, {certainty[i]:.1%}"
            for i, truth, prediction in zip(worst.tolist(), truths, predictions, strict=True)
        ]
        title = f"{wrong:,} of {len(labels):,} validation images are wrong; the most certain first"
        figure = gallery([np.asarray(images.image(i)) for i in worst.tolist()], captions, title)
        self.log_figure(trainer, "wrong_images", figure)


def certainty_of_wrong(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) probabilities of the wrong predictions; 0 for images that are right.

    With several labels an image, it is that of its most certain wrong label.

    Args:
        probabilities: (N, K).
        labels: (N,) classes, or (N, K) zeros and ones.

    >>> certainty_of_wrong(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([1, 1]))
    tensor([0.9000, 0.0000])
    """
    wrong = predicted(probabilities, labels) != labels
    if labels.ndim == 1:
        return probabilities.amax(dim=1) * wrong
    return (torch.maximum(probabilities, 1 - probabilities) * wrong).amax(dim=1)
