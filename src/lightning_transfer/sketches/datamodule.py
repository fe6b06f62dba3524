"""Drawn cats and dogs: the default data, which needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.folder import scan_folder
from lightning_transfer.data.index import SPLITS, ImageIndex
from lightning_transfer.errors import DataError
from lightning_transfer.sketches.canvas import Box, Sketcher
from lightning_transfer.sketches.folder import NOTE, SketchFolder
from lightning_transfer.sketches.pets import draw_cat, draw_dog
from lightning_transfer.utils.arguments import path_text, positive, shown, whole_number

SAMPLES = {"train": 1000, "validation": 500, "test": 500}


class SketchDataModule(ImageDataModule):
    """Images that are drawn if they do not exist yet; subclasses say of what.

    Args:
        draw: The function that draws an image of each class, by class name.
        root: The folder of the images.
        samples: Images per class, by split.
        drawing_seed: Seed of the drawings.
        **kwargs: As for `ImageDataModule`.
    """

    def __init__(
        self,
        draw: Mapping[str, Sketcher],
        root: str | Path,
        samples: Mapping[str, int],
        drawing_seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(index=None, **kwargs)
        self.root = Path(path_text("root", root))
        self.samples = _counts(samples)
        self.drawing_seed = whole_number("drawing_seed", drawing_seed)
        self._draw = draw

    @property
    def sketches(self) -> SketchFolder:
        """The folder, drawn at the image size.

        Raises:
            DataError: The image size is not known yet.
        """
        return SketchFolder(self.root, self._draw, self.samples, self.known_size(), self.drawing_seed)

    @property
    def arguments(self) -> dict[str, Any]:
        """See `ImageDataModule`; without the functions that draw, which the class names."""
        return {name: value for name, value in super().arguments.items() if name != "draw"}

    @property
    def boxes(self) -> dict[str, Box]:
        """Where the animal or thing is, by image path below `root`: left, top, right, bottom in pixels."""
        return self.sketches.boxes()

    def prepare_data(self) -> None:
        """Draw the images if they do not exist yet, completely or not at all.

        Raises:
            DataError: Something else is at `root`, or it cannot be written.
        """
        super().prepare_data()
        self.sketches.build()

    def load_index(self) -> ImageIndex:
        """Scan the folder.

        Raises:
            DataError: It cannot be used.
        """
        index = scan_folder(self.root)
        return replace(index, left_out=tuple(pair for pair in index.left_out if pair[0] != NOTE))


def _counts(samples: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(samples, Mapping) or not {"train", "validation"} <= samples.keys() <= set(SPLITS):
        raise DataError(
            f"samples={shown(samples)}: wanted the images per class of each split, such as "
            '{"train": 1000, "validation": 500, "test": 500}.'
        )
    return {split: positive(f"samples.{split}", count) for split, count in samples.items()}


class SketchPetsDataModule(SketchDataModule):
    """Cats and dogs drawn by code, written as JPEG files in the layout of `cats_and_dogs_small`.

    Pose, ears, muzzle, coat, eyes, whiskers, size, light, background, occlusion and noise vary. Both animals have
    the same coats, poses and backgrounds, so colour does not tell them apart.

    Args:
        root: The folder of the images.
        samples: Images per class, for train, validation and test.
        drawing_seed: Seed of the drawings.
        **kwargs: As for `ImageDataModule`: image_size, resize, batch_size, seed, max_images, on_bad_image,
            max_bad_images, left_out_report, max_pixels, duplicates, bit_depth, augmentation, num_workers,
            use_cache.
    """

    def __init__(
        self,
        root: str | Path = "data/sketch_pets",
        samples: Mapping[str, int] = SAMPLES,
        *,
        drawing_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__({"cats": draw_cat, "dogs": draw_dog}, root, samples, drawing_seed, **kwargs)
