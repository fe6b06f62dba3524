"""Read the images, labels and splits of a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lightning_transfer.data.index import SPLITS, ImageIndex, Samples
from lightning_transfer.data.splitting import SHARES, index_of
from lightning_transfer.data.table_columns import Columns, find_columns, told, with_header
from lightning_transfer.data.table_files import all_files, find_files, trees_of
from lightning_transfer.data.table_rows import Row, merged, read_rows
from lightning_transfer.data.table_text import read_cells
from lightning_transfer.errors import DataError

WITHOUT_FILE = "a row of the table without a file"
WITHOUT_ROW = "a file without a row in the table"


def read_table(
    table: Path,
    root: Path | None = None,
    columns: Columns = Columns(),  # noqa: B008  # it is immutable
    separator: str | None = None,
    shares: tuple[float, float, float] = SHARES,
    split_seed: int = 0,
) -> ImageIndex:
    """Read an index of images from a CSV file with a header.

    What is decided about the table is in the index's notes; rows without a file and files without a row are left
    out.

    Args:
        table: Its columns are separated by commas, semicolons or tabs.
        root: A folder above the images; None for the table's own.
        columns: Names of its columns, as far as they are to be given.
        separator: What stands between the labels of an image; a cell may then hold several, or be empty.
        shares: Of train, validation and test, for a table without a column of splits; see `index_of`.
        split_seed: Which images go where, in such a table.

    Raises:
        DataError: The file cannot be read, or a column, path, label or split is missing or wrong; names the line.
    """
    if root is not None and not root.is_dir():
        raise DataError(f"root={root}: there is no such folder; wanted one that holds the images of {table}.")
    trees = trees_of(table, root)
    cells = with_header(read_cells(table), lambda names: all_files(trees, names))
    found = find_columns(cells, columns, lambda names: all_files(trees, names))
    rows = read_rows(cells, found, separator)
    files = find_files(table, trees, [(row.line, row.path) for row in rows])
    located = [replace(row, path=path) for row, path in zip(rows, files.paths, strict=True) if path is not None]
    without_file = tuple(
        (row.path, WITHOUT_FILE) for row, path in zip(rows, files.paths, strict=True) if path is None
    )
    without_row = tuple((path, WITHOUT_ROW) for path in files.without_row)
    kept, unclear, notes = merged(table, located, separator is not None)
    class_names = _class_names(kept)
    if len(class_names) < (2 if separator is None else 1):
        column = cells.header[found.label]
        raise DataError(f"{table} has {len(class_names)} class in column {column!r}: wanted two or more.")
    if lost := _lost(rows, class_names):
        notes.append(f"No row of {', '.join(lost)} in {table.name} can be used: these are no classes.")
    if without_file or without_row:
        notes.append(
            f"Left out: rows of {table.name} without a file: {len(without_file):,} of {len(rows):,}; images "
            f"without a row: {len(without_row):,}."
        )
    splits = splits_of(kept, class_names, separator is not None)
    index = index_of(files.root, class_names, splits, shares, split_seed, multi_label=separator is not None)
    _refuse_untrained(table, index)
    said = (*cells.notes, told(cells, columns, found), files.note, *notes)
    return replace(
        index,
        left_out=(*index.left_out, *without_file, *without_row, *unclear),
        notes=(*index.notes, *filter(None, said)),
    )


def splits_of(rows: Sequence[Row], class_names: Sequence[str], multi_label: bool) -> dict[str, Samples]:
    """The images of each split that the rows name, or all of them as "" if they name none.

    Args:
        rows: Each with the path of its file.
        class_names: K names.
        multi_label: Whether a label is a tuple of classes.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    splits: dict[str, Samples] = {}
    for split in ("", *SPLITS):
        if chosen := [row for row in rows if row.split == split]:
            classes = [tuple(sorted({labels[name] for name in row.classes})) for row in chosen]
            paths = tuple(row.path for row in chosen)
            splits[split] = Samples(paths, tuple(classes) if multi_label else tuple(own[0] for own in classes))
    return splits


def _class_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """Sorted by number if all are whole numbers, so that "10" comes after "9"."""
    names = {name for row in rows for name in row.classes}
    if all(name.removeprefix("-").isdecimal() and name.isascii() and len(name) < 20 for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _lost(rows: Sequence[Row], class_names: Sequence[str]) -> list[str]:
    return sorted({name for row in rows for name in row.classes} - set(class_names))


def _refuse_untrained(table: Path, index: ImageIndex) -> None:
    counts = zip(index.class_names, index.class_counts("train"), strict=True)
    if missing := [name for name, count in counts if not count]:
        raise DataError(f"No image of {', '.join(missing)} is in the train split of {table}: add some.")
