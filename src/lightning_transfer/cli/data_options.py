"""The flags of commands that take images by `--data`: one set, the data modules' own names and defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from lightning_transfer.data.datamodule import Duplicates, OnBadImage
from lightning_transfer.data.decoding import MAX_PIXELS, Resize
from lightning_transfer.data.image_folder import LabelFrom
from lightning_transfer.data.labels_from_names import PATTERN
from lightning_transfer.data.special_files import BitDepth
from lightning_transfer.data.splitting import SHARES
from lightning_transfer.models.native_size import usual_size
from lightning_transfer.models.weights import choose_weights

OUT = "{out}"  # stands for the command's folder


@dataclass(frozen=True)
class DataOptions:
    """The images, as the data modules take them.

    Args:
        image_size: H and W of every image, in pixels; where it is not given, 150 for vgg16 and mobilenet_v3_small,
            and for others what their weights were trained at.
        resize: "squash" changes the aspect ratio; "crop" scales the shorter side and cuts out the middle.
        batch_size: How many images go through the network at once.
        num_workers: Processes that decode; half of the processor's cores where it is not given.
        split: Shares of train, validation and test, in a folder or table that is not split.
        split_seed: Which images go where then.
        seed: Of the order of training images, their augmentation, and random weights.
        max_images: Keep the first images of each split only, so many, taking one of each class in turn.
        on_bad_image: "error" stops at the first image that cannot be decoded; "skip" decodes all of them first,
            and leaves the bad ones out.
        max_bad_images: The share of all images that "skip" may leave out before it stops.
        duplicates: What is done with files of equal content in two splits or with two labels: "drop" leaves them
            out; "error" refuses them; "keep" does not look for them.
        max_pixels: Largest height times width that is decoded; a file that would have more is bad.
        bit_depth: Of 16-bit gray images; "auto" takes the smallest that holds all their values.
        use_cache: Whether to recall what an earlier start has read of the files; false reads them again.
        left_out_report: The CSV file of path and reason that is written if any file is left out, {out} being the
            folder out; null for none.
        label_from: Where a folder's labels are: "folder" for a folder for each class, "name" for images whose
            names carry the label, as in cat.0.jpg.
        label_pattern: For "name": a regular expression for the whole name without suffix, with a group around the
            label.
        root: For a table: a folder above the images; the table's own where it is not given.
        path_column: For a table: the column of paths; it is looked for where it is not given.
        label_column: For a table: the column of class names; it is looked for where it is not given.
        split_column: For a table: the column of splits, "" for none; it is looked for where it is not given.
    """

    image_size: int | None = None
    resize: Resize = "squash"
    batch_size: int = 20
    num_workers: int | None = None
    split: tuple[float, float, float] = SHARES
    split_seed: int = 0
    seed: int = 0
    max_images: int | None = None
    on_bad_image: OnBadImage = "error"
    max_bad_images: float = 0.1
    duplicates: Duplicates = "drop"
    max_pixels: int = MAX_PIXELS
    bit_depth: BitDepth = "auto"
    use_cache: bool = True
    left_out_report: str | None = f"{OUT}/left_out.csv"
    label_from: LabelFrom = "folder"
    label_pattern: str = PATTERN
    root: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None

    def sized_for(self, backbone: str, weights: str) -> Self:
        """Return the same with an image size: the network's usual one, where none is given.

        Raises:
            BackboneError: An unknown network or weights name.
        """
        if self.image_size is not None:
            return self
        chosen = choose_weights(backbone, weights)
        return replace(self, image_size=usual_size(backbone, None if chosen == "none" else chosen))

    def changed(self) -> dict[str, Any]:
        """Return those that differ from the defaults, which are the data modules' own but for the image size."""
        default = asdict(DataOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    def report(self, out: str | Path) -> str | None:
        """Return the file that lists what is left out, for a command that writes to a folder."""
        return self.left_out_report and self.left_out_report.replace(OUT, str(out))
