"""The data that a plain word on the command line stands for."""

from __future__ import annotations

from pathlib import Path

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.data.image_table import ImageTableDataModule
from lightning_transfer.sketches.datamodule import SketchPetsDataModule

TABLES = (".csv", ".tsv")


def data_by_name(
    data: str,
    image_size: int = 150,
    batch_size: int = 32,
    augmentation: Augmentation | None = None,
    split_seed: int = 0,
) -> ImageDataModule:
    """Make a data module; its images are made and loaded when it is set up.

    Args:
        data: "sketch_pets" or "cats_and_dogs", which are made below `data/` if they do not exist yet; a
            file that ends in .csv or .tsv is a table of images; any other word is a folder of images with one
            folder per class.
        image_size: H and W of every image, in pixels.
        batch_size: B, per process.
        augmentation: Random changes of training images.
        split_seed: Which images go where, in a folder or table that is not split.
    """
    if data == "sketch_pets":
        # They are drawn at the size in use, so each size has its own folder.
        root = "data/sketch_pets" if image_size == 150 else f"data/sketch_pets_{image_size}"
        return SketchPetsDataModule(root, image_size=image_size, batch_size=batch_size, augmentation=augmentation)
    if data == "cats_and_dogs":
        return CatsAndDogsDataModule(image_size=image_size, batch_size=batch_size, augmentation=augmentation)
    is_table = Path(data).suffix.lower() in TABLES and Path(data).is_file()
    module = ImageTableDataModule if is_table else ImageFolderDataModule
    return module(
        data, split_seed=split_seed, image_size=image_size, batch_size=batch_size, augmentation=augmentation
    )
