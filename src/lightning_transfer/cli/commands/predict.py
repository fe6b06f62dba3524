"""`lightning-transfer predict`: what a network says of all images in a folder, as a CSV file.

Shapes: B batch, K classes, N samples.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, RichProgressBar
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_transfer.data.checks import check_agreement
from lightning_transfer.data.datamodule import OnBadImage, default_workers
from lightning_transfer.data.decoding import UnreadableImageError
from lightning_transfer.data.folder import find_images
from lightning_transfer.data.left_out import summary, write_left_out
from lightning_transfer.errors import DataError
from lightning_transfer.inference.prediction import ImageClassifier, load_classifier
from lightning_transfer.utils.files import checked_output, whole_file
from lightning_transfer.utils.lightning import quiet_lightning
from lightning_transfer.utils.machine import default_precision


class ProbabilityTable(BasePredictionWriter):
    """Collect each image's probabilities in its own row, from all processes.

    Args:
        root: The folder of the images.
        paths: N of them below it.
        classes: K.

    Attributes:
        rows: (N, K) float32; not a number where an image could not be read. Whole once prediction has ended.
    """

    def __init__(self, root: Path, paths: Sequence[str], classes: int) -> None:
        super().__init__("batch")
        self.root = root
        self.paths = paths
        self.rows = torch.zeros((len(paths), classes))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that a row means the same image in all processes.

        Raises:
            DataError: Processes on several machines find different images.
        """
        check_agreement(self.root, self.paths)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Store (B, K) probabilities in the images' rows."""
        assert batch_indices is not None, "predict_step's samples are not numbered"
        _, readable = batch
        self.rows[list(batch_indices)] = prediction.where(readable[:, None], torch.nan).cpu()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum the processes' rows, which are 0 in all but one."""
        rows = self.rows.to(trainer.strategy.root_device)
        self.rows = trainer.strategy.reduce(rows, reduce_op="sum").cpu()


def predict(
    ckpt_path: str,
    data: str,
    out: str = "predictions.csv",
    overwrite: bool = False,
    batch_size: int = 32,
    num_workers: int | None = None,
    accelerator: str = "auto",
    devices: str | int = "auto",
    strategy: str = "auto",
    num_nodes: int = 1,
    precision: str | None = None,
    max_pixels: int | None = None,
    on_bad_image: OnBadImage = "error",
    allow_import: Sequence[str] = (),
) -> Path:
    """Write a CSV file with a row for each image of a folder: path, label, probability of each class.

    The checkpoint is enough: it brings network, classes, size, resizing and decoding along. Rows have the order of
    the folders' and files' names; what a folder inside is called does not matter. Files that are left out are
    listed in a CSV file beside `out`, whose name ends in `_left_out.csv`.

    Args:
        ckpt_path: A file that fit saved, of any regime.
        data: A folder of images, with or without folders in it.
        out: The CSV file.
        overwrite: Whether a file that is there may be replaced.
        batch_size: How many images go through the network at once, a process.
        num_workers: Processes that decode; half of the processor's cores where it is not given.
        accelerator: The Trainer's: "cpu", "gpu", "auto".
        devices: The Trainer's: how many.
        strategy: The Trainer's: "ddp" for several devices.
        num_nodes: The Trainer's: how many machines.
        precision: The Trainer's; bf16-mixed where the machine has units for it, else 32-true.
        max_pixels: Largest height times width of a file; the checkpoint's, as in training, where it is not given.
        on_bad_image: What becomes of images that cannot be read: "error" gives them empty rows, and ends with an
            error that names them; "skip" leaves them out, and lists them.
        allow_import: A package to trust with whatever its code does, where a class of its own made the checkpoint.

    Returns:
        The CSV file.

    Raises:
        ModuleError: The checkpoint cannot be used.
        OutputError: `out`, or the list beside it, is there, or cannot be written.
        DataError: There are no images, or on_bad_image is "error" and some cannot be read: their rows have no
            label and no probabilities, and the others are written first.
    """
    target = checked_output(out, overwrite)
    report = checked_output(target.with_name(f"{target.stem}_left_out.csv"), overwrite)
    classifier = load_classifier(ckpt_path, allow_import=allow_import, max_pixels=max_pixels)
    root = Path(data)
    paths, left_out = find_images(root)
    table = ProbabilityTable(root, paths, len(classifier.class_names))
    precision = precision or default_precision()
    loader = DataLoader(
        classifier.images([root / path for path in paths]),
        batch_size=batch_size,
        num_workers=default_workers() if num_workers is None else num_workers,
        pin_memory=torch.cuda.is_available(),
    )
    console = Console(soft_wrap=True, highlight=False)
    with quiet_lightning():
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            num_nodes=num_nodes,
            precision=precision,  # type: ignore[arg-type]  # the Trainer says what it wants
            callbacks=[RichProgressBar(), table],
            logger=False,
            enable_checkpointing=False,
        )
        if trainer.is_global_zero:
            console.print(f"{len(paths):,} images through {classifier.module.backbone.name}, {precision}")
        trainer.predict(classifier.module, loader, return_predictions=False)
    if not trainer.is_global_zero:
        return target
    unreadable = table.rows.isnan().any(dim=1).tolist()
    bad_paths = [path for path, bad in zip(paths, unreadable, strict=True) if bad]
    complaints = [_complaint(classifier, root / path) for path in bad_paths]
    if on_bad_image == "skip":
        reasons = (complaint.reason for complaint in complaints)
        left_out = (*left_out, *zip(bad_paths, reasons, strict=True))
    with whole_file(target) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", *(f"probability_{name}" for name in classifier.class_names)])
        for path, row, bad in zip(paths, table.rows.tolist(), unreadable, strict=True):
            if bad and on_bad_image == "skip":
                continue
            label = "" if bad else classifier.class_names[row.index(max(row))]
            writer.writerow([path, label, *("" if bad else f"{value:.6f}" for value in row)])
    console.print(f"{len(paths) - len(complaints):,} predictions: {target}")
    for line in summary(left_out):
        console.print(line, markup=False)
    if left_out:
        write_left_out(report, root, left_out, partial(console.print, markup=False))
    else:
        report.unlink(missing_ok=True)  # of a run that is overwritten
    if complaints and on_bad_image == "error":
        raise DataError(
            f"{len(complaints):,} of {len(paths):,} images could not be read; their rows in {target} are empty.\n"
            + "\n".join(map(str, complaints))
        )
    return target


def _complaint(classifier: ImageClassifier, path: Path) -> UnreadableImageError:
    """Read a file that could not be read once more, for the reason."""
    try:
        classifier.images([path]).read(path)
    except UnreadableImageError as error:
        return error
    complaint = UnreadableImageError(f"{path} could not be read, but can be now.")
    complaint.__cause__ = ValueError("at first, but can be now")
    return complaint
