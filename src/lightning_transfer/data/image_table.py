"""Images that a table lists, with one or several labels each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_transfer.data.csv import read_table
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.index import ImageIndex
from lightning_transfer.data.splitting import SHARES, checked_shares
from lightning_transfer.data.table_columns import Columns
from lightning_transfer.utils.arguments import path_text, text, whole_number


class ImageTableDataModule(ImageDataModule):
    """Images listed in a CSV file: a column of paths, one of labels, and one of splits or none.

    Columns are found by their names; names of images may lack the suffix, and be those of files in a folder beside
    the table. The index's notes say what was decided. Rows without a file, files without a row, and files whose
    rows contradict each other are left out and listed.

    Args:
        table: A CSV file with a header; commas, semicolons or tabs separate its columns.
        root: A folder above the images; None for the table's own.
        path_column: The column of paths; None for the first of path, filename, image, id and the like.
        label_column: The column of class names; None for the first of label, class, category and the like.
        split_column: The column of splits: train, validation and test; None for the first of split, set, subset
            and the like, "" for none. A table without one is split here by class, the same way for the same
            `split_seed`.
        separator: For images with several labels, what stands between them in a cell, such as "|"; the cell may be
            empty. A table without splits is then split without regard to the classes.
        split: Shares of train, validation and test, for a table without splits.
        split_seed: Which images go where, in such a table.
        **kwargs: As for `ImageDataModule`: image_size, resize, batch_size, seed, max_images, on_bad_image,
            max_bad_images, left_out_report, max_pixels, duplicates, bit_depth, augmentation, num_workers,
            use_cache.
    """

    def __init__(
        self,
        table: str | Path,
        root: str | Path | None = None,
        *,
        path_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        separator: str | None = None,
        split: tuple[float, float, float] = SHARES,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(index=None, **kwargs)
        self.table = Path(path_text("table", table))
        self.root = None if root is None else Path(path_text("root", root))
        self.path_column = _text("path_column", path_column)
        self.label_column = _text("label_column", label_column)
        self.split_column = _text("split_column", split_column)
        self.separator = _text("separator", separator)
        self.split = checked_shares(split)
        self.split_seed = whole_number("split_seed", split_seed)

    def load_index(self) -> ImageIndex:
        """Read the table.

        Raises:
            DataError: It cannot be used; names the line.
        """
        return read_table(self.table, self.root, self.columns, self.separator, self.split, self.split_seed)

    @property
    def columns(self) -> Columns:
        """The columns that were named; None for those to be found."""
        return Columns(self.path_column, self.label_column, self.split_column)


def _text(name: str, value: str | None) -> str | None:
    return None if value is None else text(name, value)
