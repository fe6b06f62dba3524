"""The images of one split as data sets: as they are, changed in each epoch, and as they are in one epoch.

Shapes: H W image.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.decoding import (
    MAX_PIXELS,
    Resize,
    UnreadableImageError,
    load_image,
    resize_image,
    to_tensor,
)
from lightning_transfer.data.folder import Samples


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """The images of one split: item i is ((3, H, W) uint8, label).

    Attributes:
        root: The folder that the samples' paths are below.
        samples: Paths and labels.
        image_size: H and W, in pixels.
        resize: "squash" or "crop".
        max_pixels: H · W of the largest file.
    """

    def __init__(
        self,
        root: Path,
        samples: Samples,
        image_size: int = 150,
        resize: Resize = "squash",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.root = root
        self.samples = samples
        self.image_size = image_size
        self.resize: Resize = resize
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Image.Image:
        """One image, of the wanted size."""
        try:
            image = load_image(self.root / self.samples.paths[index], self.image_size, self.max_pixels)
        except UnreadableImageError as error:
            hint = 'Or pass on_bad_image="skip" to go on without such files.'
            raise UnreadableImageError(f"{error} {hint}") from error.__cause__
        return resize_image(image, self.image_size, self.resize)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return to_tensor(self.image(index)), self.samples.labels[index]


class AugmentedDataset(Dataset[tuple[Tensor, int]]):
    """The images of one split, changed anew in each epoch: item (epoch, i) is ((3, H, W) uint8, label).

    The epoch comes with the index, since worker processes that live on have no other way to learn of it.
    """

    def __init__(self, images: ImageDataset, augmentation: Augmentation, seed: int) -> None:
        self.images = images
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = place
        image = self.augmentation(self.images.image(index), [self.seed, epoch, index])
        return to_tensor(image), self.images.samples.labels[index]


class View(Dataset[tuple[Tensor, int]]):
    """Augmented images as they are in one epoch: item i is ((3, H, W) uint8, label)."""

    def __init__(self, images: AugmentedDataset, epoch: int) -> None:
        self.images = images
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[self.epoch, index]
