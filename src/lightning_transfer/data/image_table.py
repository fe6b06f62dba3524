"""Images that a table lists, with one or several labels each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_transfer.data.csv import Columns, read_table
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.index import ImageIndex
from lightning_transfer.data.splitting import SHARES


class ImageTableDataModule(ImageDataModule):
    """Images listed in a CSV file: a column of paths, one of labels, and one of splits or none.

    Args:
        table: A UTF-8 CSV file with a header.
        root: The folder that the paths start from; None for the table's own.
        path_column: The column of paths.
        label_column: The column of class names.
        split_column: The column of splits: train, validation and test. A table without a column "split" is split
            here by class, the same way for the same `split_seed`.
        separator: For images with several labels, what stands between them in a cell, such as "|"; the cell may be
            empty. A table without splits is then split without regard to the classes.
        split: Shares of train, validation and test, for a table without splits.
        split_seed: Which images go where, in such a table.
        **kwargs: As for `ImageDataModule`: image_size, resize, batch_size, seed, max_images, on_bad_image,
            max_bad_images, left_out_report, max_pixels, duplicates, augmentation, num_workers.
    """

    def __init__(
        self,
        table: str,
        root: str | None = None,
        *,
        path_column: str = "path",
        label_column: str = "label",
        split_column: str = "split",
        separator: str | None = None,
        split: tuple[float, float, float] = SHARES,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(index=None, **kwargs)
        self.table = Path(table)
        self.root = self.table.parent if root is None else Path(root)
        self.columns = Columns(path_column, label_column, split_column)
        self.separator = separator
        self.split = split
        self.split_seed = split_seed

    def load_index(self) -> ImageIndex:
        """Read the table.

        Raises:
            DataError: It cannot be used; names the line.
        """
        check_paths = self.on_bad_image == "error"  # "skip" lists missing files with the bad ones
        return read_table(
            self.table, self.root, self.columns, self.separator, self.split, self.split_seed, check_paths
        )
