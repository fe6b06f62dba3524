"""Random changes of a training image, the same again for the same (seed, epoch, sample).

Shapes: H W image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_transfer.utils.arguments import number, one_of

# ImageNet's mean colour, near zero after any network's normalisation: no corner that could be taken for a cue.
FILL = (124, 116, 104)
LIMITS = {
    "rotation": 180,
    "shift": 1,
    "shear": 89,
    "zoom": 0.99,
    "colour": 1,
    "erase": 1,
    "mixup": 100,
    "cutmix": 100,
}
LATER = ("trivial", "erase", "mixup", "cutmix")


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
        colour: Change brightness, contrast and saturation by at most this share; not in the book's set, nor is
            what follows.
        trivial: Change each image by one operation of TrivialAugment, at a random strength, after the above.
        erase: Fill a rectangle with the neutral gray, in so large a share of the images.
        mixup: Add another training image to each, and its label; the alpha of the Beta distribution of their
            shares, 0 for none, commonly 0.2. Labels are then probabilities, see `mixed`.
        cutmix: Paste a rectangle of another training image into each, likewise; commonly 1. With `mixup` too, one
            of the two is drawn for each image.

    Raises:
        DataError: A value out of range, or no number.

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
    trivial: bool = False
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "trivial"):
            one_of(f"augmentation.{name}", getattr(self, name), (True, False))
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            plain = number(f"augmentation.{name}", value, least=0, most=limit)
            if not isinstance(value, int):  # which stays, since the names of stores depend on it
                object.__setattr__(self, name, plain)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others, which `__call__` leaves to `mixed`."""
        return bool(self.mixup or self.cutmix)

    def recipe(self) -> dict[str, Any]:
        """Return what makes an image, as plain values; what version 0.2 did not have only where it is on."""
        return {name: value for name, value in asdict(self).items() if value or name not in LATER}

    def __call__(self, image: Image.Image, seed: Sequence[int]) -> Image.Image:
        """Change an image by itself.

        Args:
            image: An RGB image.
            seed: Numbers from 0 on, which alone decide what happens.

        Returns:
            An image of the same size.
        """
        with seeded(seed):
            changed: Image.Image = _transform(self)(image)
        return changed


@contextmanager
def seeded(seed: Sequence[int]) -> Iterator[None]:
    """Have torchvision draw by some numbers from 0 on, and leave alone what else draws from torch's generator."""
    state = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(state)
        yield


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
    if augmentation.trivial:
        steps.append(v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR, fill=list(FILL)))
    if augmentation.erase:
        steps += [v2.PILToTensor(), v2.RandomErasing(augmentation.erase, value=list(FILL)), v2.ToPILImage()]
    return v2.Compose([*steps, v2.Identity()])
