"""The data that a plain word on the command line stands for."""

from __future__ import annotations

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.sketches.datamodule import SketchPetsDataModule


def data_by_name(
    data: str,
    image_size: int = 150,
    batch_size: int = 32,
    augmentation: Augmentation | None = None,
    split_seed: int = 0,
) -> ImageFolderDataModule:
    """A data module whose images are there and scanned.

    Args:
        data: "sketch_pets" and "cats_and_dogs" make their images below `data/`, where they are not there yet;
            any other word is a folder of images, a class a folder.
        image_size: H and W of every image, in pixels.
        batch_size: B, a process.
        augmentation: How training images are changed.
        split_seed: Of the split of a folder that has none.

    Raises:
        DataError: The images are not usable, or cannot be made.
        DownloadError: The book's images cannot be fetched.
    """
    images: ImageFolderDataModule
    if data == "sketch_pets":
        # They are drawn in the size they are wanted in, so each size has a folder.
        root = "data/sketch_pets" if image_size == 150 else f"data/sketch_pets_{image_size}"
        images = SketchPetsDataModule(
            root, image_size=image_size, batch_size=batch_size, augmentation=augmentation
        )
    elif data == "cats_and_dogs":
        images = CatsAndDogsDataModule(image_size=image_size, batch_size=batch_size, augmentation=augmentation)
    else:
        images = ImageFolderDataModule(
            data, image_size, batch_size=batch_size, seed=split_seed, augmentation=augmentation
        )
    images.prepare_data()
    images.setup()
    return images
