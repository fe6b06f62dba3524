"""Drawn animals and things, none of them a cat or a dog: what the bundled backbone was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_transfer.sketches.creatures import CREATURES
from lightning_transfer.sketches.datamodule import SketchDataModule

SAMPLES = {"train": 400, "validation": 40, "test": 40}


class SketchCreaturesDataModule(SketchDataModule):
    """Animals and things drawn by the code that also draws the cats and dogs of `SketchPetsDataModule`.

    Args:
        root: The folder of the images.
        samples: Images per class, for train, validation and test.
        drawing_seed: Seed of the drawings.
        batch_size: B, per process.
        **kwargs: As for `ImageDataModule`: image_size, resize, seed, max_images, on_bad_image, max_bad_images,
            left_out_report, max_pixels, duplicates, bit_depth, augmentation, num_workers, use_cache.
    """

    def __init__(
        self,
        root: str | Path = "data/sketch_creatures",
        samples: Mapping[str, int] = SAMPLES,
        *,
        drawing_seed: int = 0,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(CREATURES, root, samples, drawing_seed, batch_size=batch_size, **kwargs)
