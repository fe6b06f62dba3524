"""The data sets that have a name on the command line."""

from __future__ import annotations

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.sketches.datamodule import SketchPetsDataModule


def data_by_name(
    data: str,
    image_size: int = 150,
    batch_size: int = 32,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    split_seed: int = 0,
) -> ImageDataModule:
    """Make a data module and load its images.

    Args:
        data: "sketch_pets" or "cats_and_dogs", which are made below `data/` if they do not exist yet; any
            other word is a folder of images with one folder per class.
        image_size: H and W of every image, in pixels.
        batch_size: B, per process.
        augmentation: Random changes of training images.
        seed: Seed of the order of training images, and of the augmentation.
        split_seed: Which images go where, in a folder that is not split.

    Raises:
        DataError: The images cannot be used or made.
        DownloadError: The photographs of cats and dogs cannot be downloaded.
    """
    images = _data_module(data, image_size, batch_size, augmentation, seed, split_seed)
    images.prepare_data()
    images.setup()
    return images


def _data_module(
    data: str, image_size: int, batch_size: int, augmentation: Augmentation | None, seed: int, split_seed: int
) -> ImageDataModule:
    if data == "sketch_pets":
        # They are drawn at the size in use, so each size has its own folder.
        root = "data/sketch_pets" if image_size == 150 else f"data/sketch_pets_{image_size}"
        return SketchPetsDataModule(
            root, image_size=image_size, batch_size=batch_size, augmentation=augmentation, seed=seed
        )
    if data == "cats_and_dogs":
        return CatsAndDogsDataModule(
            image_size=image_size, batch_size=batch_size, augmentation=augmentation, seed=seed
        )
    return ImageFolderDataModule(
        data,
        split_seed=split_seed,
        image_size=image_size,
        batch_size=batch_size,
        augmentation=augmentation,
        seed=seed,
    )
