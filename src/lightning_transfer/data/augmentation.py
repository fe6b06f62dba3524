"""Random changes of a training image, the same again for the same (seed, epoch, sample).

Shapes: H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_transfer.errors import DataError

# ImageNet's mean colour, near zero after any network's normalisation: no corner that could be taken for a cue.
FILL = (124, 116, 104)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image; the default is the set of Chollet's book (1st edition, 5.2.5).

    Where an image is turned or shifted away, a neutral gray appears (the book repeats the outermost pixels).

    Args:
        flip: Mirror left and right, for one image in two.
        rotation: Turn by at most so many degrees either way.
        shift: Move by at most this share of the width and of the height.
        shear: Slant by at most so many degrees (the book's 0.2 was radians in the Keras of its time).
        zoom: Magnify or shrink by at most this share.
        colour: Change brightness, contrast and saturation by at most this share; not in the book's set.

    Raises:
        DataError: A value out of range.

    >>> image = Image.effect_noise((32, 32), 64).convert("RGB")
    >>> augmentation = Augmentation(rotation=20, colour=0.2)
    >>> augmentation(image, [0, 7, 3]) == augmentation(image, [0, 7, 3])
    True
    >>> augmentation(image, [0, 7, 3]) == augmentation(image, [0, 8, 3])
    False
    """

    flip: bool = True
    rotation: float = 40.0
    shift: float = 0.2
    shear: float = 11.5
    zoom: float = 0.2
    colour: float = 0.0

    def __post_init__(self) -> None:
        limits = {"rotation": 180.0, "shift": 1.0, "shear": 89.0, "zoom": 0.99, "colour": 1.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise DataError(f"augmentation.{name}={value}: wanted a number from 0 (none) to {limit:g}.")

    def __call__(self, image: Image.Image, seed: Sequence[int]) -> Image.Image:
        """Change an image.

        Args:
            image: An RGB image.
            seed: Numbers from 0 on, which alone decide what happens.

        Returns:
            An image of the same size.
        """
        state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        # torchvision draws from torch's own generator; what else draws from it shall not notice.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(state)
            changed: Image.Image = _transform(self)(image)
        return changed


@lru_cache
def _transform(augmentation: Augmentation) -> v2.Transform:
    affine = v2.RandomAffine(
        degrees=augmentation.rotation,
        translate=(augmentation.shift, augmentation.shift),
        scale=(1 - augmentation.zoom, 1 + augmentation.zoom),
        shear=augmentation.shear,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=FILL,
    )
    colour = augmentation.colour
    moved = augmentation.rotation or augmentation.shift or augmentation.shear or augmentation.zoom
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip()] if augmentation.flip else []
    steps += [affine] if moved else []
    steps += [v2.ColorJitter(brightness=colour, contrast=colour, saturation=colour)] if colour else []
    return v2.Compose([*steps, v2.Identity()])
