"""The images of a comparison or a probe: made ready, and the list of what is left out put into its folder."""

from __future__ import annotations

import copy
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.console import Console

from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.image_folder import ImageFolderDataModule
from lightning_transfer.data.left_out import write_left_out
from lightning_transfer.models.native_size import check_size, native_size, usual_size


def prepared(
    data: ImageDataModule | str | Path,
    out: Path,
    augmentation: Augmentation | None,
    backbone: str,
    weights: str | None,
) -> tuple[ImageDataModule, Path | None]:
    """Load images, and say what was decided and what is left out; nothing is written yet.

    Args:
        data: A data module, which is not changed; or a folder of images.
        out: The folder that the list of what is left out goes to, where `data` is a folder.
        augmentation: Of the training images, where `data` is a folder.
        backbone: The network that the images are for; its size is theirs where they have none.
        weights: Its weights, by name or path; None for random ones.

    Returns:
        The images, and the file of that list.

    Raises:
        DataError: The images are not usable.
        BackboneError: An unknown network, or images whose size does not fit it; they are not looked at then.
    """
    if isinstance(data, ImageDataModule):
        images = copy.copy(data)
        images.default_size = native_size(backbone, weights)
    else:
        report = str(out / "left_out.csv")
        images = ImageFolderDataModule(
            str(data),
            image_size=usual_size(backbone, weights),
            augmentation=augmentation,
            left_out_report=report,
        )
    check_size(backbone, images.known_size())
    # The list is written later, since the folder may turn out to be another run's.
    own, images.left_out_report = images.left_out_report, None
    images.prepare_data()
    images.setup()
    return images, own


def list_left_out(images: ImageDataModule, report: Path | None, console: Console) -> None:
    """Write path and reason of what is left out, and say where; an older list does not stay.

    Raises:
        OutputError: It cannot be written.
    """
    if report is None or not (images.index.left_out or report.is_file()):
        return
    with suppress(OSError):  # what is wrong with the folder is said by the next line
        report.parent.mkdir(parents=True, exist_ok=True)
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    write_left_out(report, images.index.root, images.index.left_out, say)
