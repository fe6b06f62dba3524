"""The validation images, for callbacks that show some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor

from lightning_transfer.data.order import FixedOrder
from lightning_transfer.errors import CallbackError


class Samples(Protocol):
    """Files and their labels."""

    @property
    def paths(self) -> Sequence[str]:
        """N files."""


class Images(Protocol):
    """Images by index, in the order of validation."""

    @property
    def samples(self) -> Samples:
        """Their files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    def image(self, index: int) -> Image.Image:
        """Return one image, as it goes into the network."""


@dataclass(frozen=True)
class Paths:
    """N files."""

    paths: Sequence[str]


@dataclass(frozen=True)
class Reordered:
    """Images in another order: item i is item `order[i]` of `images`."""

    images: Images
    order: Sequence[int]

    @property
    def samples(self) -> Paths:
        """Their files."""
        paths = self.images.samples.paths
        return Paths([paths[index] for index in self.order])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[self.order[index]]

    def image(self, index: int) -> Image.Image:
        """Return one image, as it goes into the network."""
        return self.images.image(self.order[index])


def validation_images(trainer: Trainer, wanted_by: str) -> Images:
    """Return the images of the data module, or those of the features it serves (its attribute `images`).

    They are those of `dataset("validation")`, in the order in which the Trainer's loader serves them: that of a
    `FixedOrder`, as the data modules of this library have it, else their own.

    Raises:
        CallbackError: It has none.
    """
    data: Any = getattr(trainer, "datamodule", None)
    images = getattr(data, "images", data)
    if not hasattr(images, "dataset"):
        owner = "the loaders passed to fit have" if data is None else f"{type(data).__name__} has"
        raise CallbackError(
            f"{wanted_by} shows validation images, and {owner} none: pass a data module with dataset(split), "
            "as those of this library are, or FeatureDataModule(store, images=…), or leave the callback out."
        )
    found = cast(Images, images.dataset("validation"))
    served: Any = getattr(getattr(trainer, "val_dataloaders", None), "dataset", None)
    return Reordered(found, served.indices) if isinstance(served, FixedOrder) else found


def evenly(count: int, total: int) -> list[int]:
    """Return `count` evenly spaced indices from the first of `total` to the last; all if there are fewer.

    >>> evenly(3, 11)
    [0, 5, 10]
    """
    chosen: list[int] = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    return chosen
