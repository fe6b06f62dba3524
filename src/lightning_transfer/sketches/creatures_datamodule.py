"""Drawn animals and things, none of them a cat or a dog: what the bundled backbone was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.sketches.creatures import CREATURES
from lightning_transfer.sketches.datamodule import SketchDataModule

SAMPLES = {"train": 400, "validation": 40, "test": 40}


class SketchCreaturesDataModule(SketchDataModule):
    """Animals and things drawn by the code that also draws `SketchPetsDataModule`'s cats and dogs.

    Args:
        root: Where the images lie, or shall lie.
        samples: Images a class, for train, validation and test.
        image_size: H and W of every image, in pixels.
        batch_size: B, a process.
        seed: Of the drawings, of the order in each epoch, and of the augmentation.
        augmentation: As for `ImageFolderDataModule`.
        num_workers: As for `ImageFolderDataModule`.
    """

    def __init__(
        self,
        root: str = "data/sketch_creatures",
        samples: Mapping[str, int] = SAMPLES,
        image_size: int = 150,
        batch_size: int = 64,
        seed: int = 0,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008  # it is immutable
        num_workers: int | None = None,
    ) -> None:
        super().__init__(CREATURES, root, samples, image_size, batch_size, seed, augmentation, num_workers)
