"""The data that a plain word on the command line stands for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from lightning_transfer.cli.data_names import is_table
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.data.image_table import ImageTableDataModule
from lightning_transfer.errors import UsageError
from lightning_transfer.sketches.datamodule import SketchPetsDataModule


def data_by_name(
    data: str,
    options: DataOptions = DataOptions(),  # noqa: B008  # it is immutable
    augmentation: Augmentation | None = None,
    out: str | Path = ".",
) -> ImageDataModule:
    """Make a data module; its images are made and loaded when it is set up.

    Args:
        data: "sketch_pets" or "cats_and_dogs", which are made below `data/` if they do not exist yet; a name that
            ends in .csv or .tsv is a table of images; any other word is a folder of images.
        options: How they are read.
        augmentation: Random changes of training images.
        out: The folder that the command writes to.

    Raises:
        UsageError: An option was given that these data do not have.
    """
    module, where = _module(data, options.image_size)
    known = _arguments(ImageDataModule) | _arguments(module) - where.keys()
    given = options.changed()
    if foreign := [name for name in given if name not in known]:
        name = foreign[0]
        raise UsageError(
            f"{name}={given[name]}: --data {data} has no such option, {_whose(name)} has: leave it out."
        )
    given["left_out_report"] = options.report(out)
    return module(**where, **given, augmentation=augmentation)


def _module(data: str, image_size: int | None) -> tuple[type[ImageDataModule], dict[str, Any]]:
    if data == "cats_and_dogs":
        return CatsAndDogsDataModule, {"root": "data/cats_and_dogs_small"}
    if data == "sketch_pets":
        # They are drawn at the size in use, so each size has its own folder.
        return SketchPetsDataModule, {
            "root": "data/sketch_pets" if image_size in (None, 150) else f"data/sketch_pets_{image_size}"
        }
    if is_table(data):
        return ImageTableDataModule, {"table": data}
    return ImageFolderDataModule, {"root": data}


def _arguments(module: type[ImageDataModule]) -> set[str]:
    return set(inspect.signature(module.__init__).parameters)


def _whose(option: str) -> str:
    """The data that have an option."""
    if option == "root" or option.endswith("_column"):
        return "a table"
    return "a folder" if option.startswith("label_") else "a folder or table"
