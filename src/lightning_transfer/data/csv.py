"""Read the paths, labels and splits of images from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_transfer.data.index import SPLITS, ImageIndex, Label, Samples
from lightning_transfer.data.split_names import split_named
from lightning_transfer.data.splitting import SHARES, index_of
from lightning_transfer.errors import DataError

SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns.

    Attributes:
        path: Paths of the images.
        label: Class names.
        split: "train", "validation" or "test"; a table without a column "split" is split here.
    """

    path: str = "path"
    label: str = "label"
    split: str = SPLIT_COLUMN


@dataclass(frozen=True)
class _Row:
    path: str
    classes: tuple[str, ...]
    split: str


def read_table(
    table: Path,
    root: Path,
    columns: Columns = Columns(),
    separator: str | None = None,
    shares: tuple[float, float, float] = SHARES,
    split_seed: int = 0,
    check_paths: bool = True,
) -> ImageIndex:
    """Read an index of images from a CSV file with a header.

    Args:
        table: A UTF-8 file, comma-separated.
        root: The folder that the paths start from.
        columns: Names of its columns.
        separator: What stands between the labels of an image; a cell may then hold several, or be empty.
        shares: Of train, validation and test, for a table without a column of splits; see `split_images`.
        split_seed: Which images go where, in such a table.
        check_paths: Whether a path without a file is an error.

    Raises:
        DataError: The file cannot be read, or a column, path, label or split is missing or wrong; names the line.
    """
    rows = _rows(table, root, columns, separator, check_paths)
    class_names = tuple(sorted({name for row in rows for name in row.classes}))
    if len(class_names) < (2 if separator is None else 1):
        raise DataError(f"{table} has {len(class_names)} class in column {columns.label!r}: wanted two or more.")
    labels = {name: label for label, name in enumerate(class_names)}

    def samples(split: str | None = None) -> Samples:
        chosen = [row for row in rows if split in (None, row.split)]
        found: list[Label] = []
        for row in chosen:
            classes = tuple(sorted({labels[name] for name in row.classes}))
            found.append(classes[0] if separator is None else classes)
        return Samples(tuple(row.path for row in chosen), tuple(found))

    multi_label = separator is not None
    if rows[0].split:
        splits = {split: samples(split) for split in SPLITS if any(row.split == split for row in rows)}
    else:
        splits = {"": samples()}
    index = index_of(root, class_names, splits, shares, split_seed, multi_label)
    counts = zip(class_names, index.class_counts("train"), strict=True)
    if missing := [name for name, count in counts if not count]:
        raise DataError(f"No image of {', '.join(missing)} is in the train split of {table}: add some.")
    return index


def _rows(table: Path, root: Path, columns: Columns, separator: str | None, check_paths: bool) -> list[_Row]:
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    for line, cells in _lines(table, columns):
        path, label = cells[columns.path], cells[columns.label]
        if not path:
            raise DataError(f"{table}, line {line}: no path in column {columns.path!r}.")
        if path in lines:
            raise DataError(
                f"{table}, line {line}: {path} is in line {lines[path]} already: keep one; with a separator, "
                "a cell may hold several labels."
            )
        if check_paths and not (root / path).is_file():
            raise DataError(
                f"{table}, line {line}: there is no file {root / path}: correct the path, or pass root."
            )
        lines[path] = line
        names = (label,) if separator is None else tuple(part.strip() for part in label.split(separator))
        if separator is None and not label:
            raise DataError(f"{table}, line {line}: no label of {path} in column {columns.label!r}.")
        split = cells.get(columns.split, "")
        rows.append(_Row(path, tuple(filter(None, names)), _split_name(table, line, split) if split else ""))
        if bool(rows[0].split) != bool(split):
            raise DataError(
                f"{table}, line {line}: {path} is in no split, and others are: fill in {columns.split!r}."
            )
    if not rows:
        raise DataError(f"{table} has no rows: wanted an image in each.")
    return rows


def _lines(table: Path, columns: Columns) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and cells of each line, by column."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = reader.fieldnames or []
            optional = [SPLIT_COLUMN] if columns.split == SPLIT_COLUMN else []
            for column in (columns.path, columns.label, columns.split):
                if column not in header and column not in optional:
                    raise DataError(
                        f"{table} has no column {column!r}, only {', '.join(header) or 'an empty first line'}: "
                        "pass path_column, label_column or split_column."
                    )
            for cells in reader:
                yield reader.line_num, {name: cells[name].strip() for name in header}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The table {table} cannot be read ({error}): wanted a CSV file in UTF-8.") from error


def _split_name(table: Path, line: int, name: str) -> str:
    split = split_named(name)
    if split is None:
        raise DataError(f"{table}, line {line}: the split {name!r}: wanted train, validation or test.")
    return split
