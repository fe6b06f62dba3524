"""What all candidates train: the same network, weights, images, batches and epochs."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_transfer.data.augmentation import Augmentation


@dataclass(frozen=True)
class Recipe:
    """First the head on a frozen backbone, then everything.

    Attributes:
        batch_size: Images per step.
        frozen_epochs: With a frozen backbone.
        tuned_epochs: With all stages unfrozen.
        frozen_lr: The head's learning rate on the frozen backbone.
        head_lr: The head's learning rate in fine-tuning, the peak of a one-cycle schedule.
        base_lr: The same for the backbone.
        augmentation: Of the training images.
    """

    batch_size: int = 32
    frozen_epochs: int = 1
    tuned_epochs: int = 3
    frozen_lr: float = 2e-3
    head_lr: float = 5e-4
    base_lr: float = 2e-4
    augmentation: Augmentation = Augmentation(rotation=20, shift=0.1, shear=0, zoom=0.2, colour=0.3)  # noqa: RUF009


@dataclass(frozen=True)
class Reached:
    """Time and accuracy of one run.

    Attributes:
        frozen: Seconds of a frozen-backbone epoch: all of that phase, without validation, divided by its epochs.
        tuned: The same of a fine-tuning epoch.
        accuracy: On the test images.
        versions: Of other libraries.
    """

    frozen: float
    tuned: float
    accuracy: float
    versions: str = ""
