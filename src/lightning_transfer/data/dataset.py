"""The images of one split as data sets: as they are, augmented, and augmented as in one epoch.

Shapes: H W image, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.checks import bad_images, listed
from lightning_transfer.data.decoding import (
    MAX_PIXELS,
    Resize,
    UnreadableImageError,
    load_image,
    resize_image,
    to_tensor,
)
from lightning_transfer.data.index import ImageIndex
from lightning_transfer.data.mixing import mixed, partner
from lightning_transfer.data.sampler import Place, epoch_and_index

Target = int | Tensor


class ImageDataset(Dataset[tuple[Tensor, Target]]):
    """The images of one split: item i is ((3, H, W) uint8, label).

    The label is a class index, or (K,) float32 of zeros and ones in a multi-label index.

    Attributes:
        root: The folder that the paths start from.
        samples: Paths and labels.
        num_classes: K.
        image_size: H and W, in pixels.
        resize: "squash" or "crop".
        max_pixels: Largest H · W that is decoded.
        bit_depth: Of 16-bit images; None where there are none.
    """

    def __init__(
        self,
        index: ImageIndex,
        split: str,
        image_size: int = 150,
        resize: Resize = "squash",
        max_pixels: int = MAX_PIXELS,
        bit_depth: int | None = None,
    ) -> None:
        self.root = index.root
        self.samples = index.splits[split]
        self.num_classes = index.num_classes
        self.image_size = image_size
        self.resize: Resize = resize
        self.max_pixels = max_pixels
        self.bit_depth = bit_depth

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Image.Image:
        """One image, resized."""
        try:
            path = self.root / self.samples.paths[index]
            image = load_image(path, self.image_size, self.max_pixels, self.bit_depth or 16)
        except UnreadableImageError as error:
            # A run that stops at each bad file in turn would have to be started as often.
            bad = bad_images(self.root, self.samples.paths, self.max_pixels)
            raise UnreadableImageError(
                f"{len(bad):,} of {len(self):,} images in {self.root} cannot be read: {listed(bad)}. Replace or "
                "remove them, or pass on_bad_image=skip to go on without them."
            ) from error.__cause__
        return resize_image(image, self.image_size, self.resize)

    def target(self, index: int) -> Target:
        """The label of one image: an index, or (K,) float32."""
        label = self.samples.labels[index]
        if isinstance(label, int):
            return label
        multi_hot = torch.zeros(self.num_classes)
        multi_hot[list(label)] = 1
        return multi_hot

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        return to_tensor(self.image(index)), self.target(index)


class AugmentedDataset(Dataset[tuple[Tensor, Target]]):
    """The images of one split, changed in each epoch: item (epoch, i) is ((3, H, W) uint8, label).

    Where the augmentation mixes images, a label is (K,) float32 probabilities, and an item takes two images.

    The epoch comes with the index, because persistent worker processes have no other way to learn it. Item i is
    that of epoch 0.
    """

    def __init__(self, images: ImageDataset, augmentation: Augmentation, seed: int) -> None:
        self.images = images
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: Place) -> tuple[Tensor, Target]:
        epoch, index = epoch_and_index(place)
        if not self.augmentation.mixes:
            return self._alone(epoch, index), self.images.target(index)
        seed = [self.seed, epoch, index]
        pair = (index, partner(len(self), seed))
        images = torch.stack([self._alone(epoch, each) for each in pair])
        return mixed(self.augmentation, images, torch.stack([self._probabilities(each) for each in pair]), seed)

    def _alone(self, epoch: int, index: int) -> Tensor:
        return to_tensor(self.augmentation(self.images.image(index), [self.seed, epoch, index]))

    def _probabilities(self, index: int) -> Tensor:
        target = torch.as_tensor(self.images.target(index))
        return target if target.ndim else F.one_hot(target, self.images.num_classes).float()


class View(Dataset[tuple[Tensor, Target]]):
    """Augmented images as in one epoch: item i is ((3, H, W) uint8, label)."""

    def __init__(self, images: AugmentedDataset, epoch: int) -> None:
        self.images = images
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        return self.images[self.epoch, index]
