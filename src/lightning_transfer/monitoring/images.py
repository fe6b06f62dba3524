"""The validation images, for callbacks that show some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from lightning_transfer.errors import CallbackError


class Samples(Protocol):
    """Files and their labels."""

    @property
    def paths(self) -> Sequence[str]:
        """N files."""


class Images(Protocol):
    """What the data module's `dataset("validation")` gives: images by index, in the order of validation."""

    samples: Samples

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def image(self, index: int) -> Image.Image:
        """Return one image, as it goes into the network."""


def validation_images(trainer: Trainer, wanted_by: str) -> Images:
    """Return the images of the data module, or those of the features it serves (its attribute `images`).

    Raises:
        CallbackError: It has none.
    """
    data: Any = getattr(trainer, "datamodule", None)
    images = getattr(data, "images", data)
    if not hasattr(images, "dataset"):
        served = "the loaders passed to fit have" if data is None else f"{type(data).__name__} has"
        raise CallbackError(
            f"{wanted_by} shows validation images, and {served} none: pass a data module with dataset(split), "
            "as those of this library are, or FeatureDataModule(store, images=…), or leave the callback out."
        )
    return cast(Images, images.dataset("validation"))


def evenly(count: int, total: int) -> list[int]:
    """Return `count` evenly spaced indices from the first of `total` to the last; all if there are fewer.

    >>> evenly(3, 11)
    [0, 5, 10]
    """
    chosen: list[int] = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    return chosen
