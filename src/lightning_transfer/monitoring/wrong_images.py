"""The images that a network is most certain of, and wrong.

Shapes: K classes, N samples.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_transfer.monitoring.images import validation_images
from lightning_transfer.monitoring.validation import ValidationDrawing, class_names_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class WrongImages(ValidationDrawing):
    """Shows the validation images that are most confidently wrong, under IMAGES.

    Mislabelled ones are often among them. Under each stand its file, its class, and what it was taken for.

    Args:
        count: How many at most.
        every_n_epochs: As for `Drawing`.
    """

    def __init__(self, count: int = 12, every_n_epochs: int | None = None) -> None:
        super().__init__(every_n_epochs)
        self.count = count

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks for images."""
        validation_images(trainer, type(self).__name__)

    def draw_validation(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        writer: SummaryWriter,
        probabilities: Tensor,
        labels: Tensor,
    ) -> None:
        """See `ValidationDrawing`."""
        from lightning_transfer.monitoring.figures import gallery  # only here: it takes long to import

        images = validation_images(trainer, type(self).__name__)
        names = class_names_of(trainer, pl_module, probabilities.shape[1])
        certainty, predictions = probabilities.max(dim=1)
        wrong = (predictions != labels).nonzero().flatten()
        worst = wrong[certainty[wrong].argsort(descending=True, stable=True)][: self.count].tolist()
        captions = [
            f"{PurePosixPath(images.samples.paths[i]).name}\n"
            f"{names[labels[i]]}, taken for {names[predictions[i]]}, {certainty[i]:.1%}"
            for i in worst
        ]
        title = f"{len(wrong):,} of {len(labels):,} validation images are wrong; the most certain first"
        figure = gallery([np.asarray(images.image(i)) for i in worst], captions, title)
        writer.add_figure("wrong_images", figure, trainer.global_step)
