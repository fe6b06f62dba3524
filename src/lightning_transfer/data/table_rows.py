"""Read the rows of a table, and merge those of one file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_transfer.data.split_names import split_named
from lightning_transfer.data.table_columns import Positions
from lightning_transfer.data.table_text import Table
from lightning_transfer.errors import DataError

MAX_UNCLEAR = 0.1  # of the rows; more than that is no slip


@dataclass(frozen=True)
class Row:
    """One image of a table.

    Attributes:
        line: Where in the table it is.
        path: As in the table, or that of its file.
        classes: One; with a separator, some or none.
        split: "train", "validation", "test", or "" for one that is to be split here.
    """

    line: int
    path: str
    classes: tuple[str, ...]
    split: str


def read_rows(table: Table, columns: Positions, separator: str | None) -> list[Row]:
    """Read path, classes and split of each row.

    Args:
        table: With a header.
        columns: Where the cells are.
        separator: What stands between the labels of an image; None for one label each.

    Raises:
        DataError: There are no rows, or a cell is empty or no split; names the line.
    """
    rows: list[Row] = []
    for line, cells in table.rows:
        where = f"{table.path}, line {line}"
        path, label = cells[columns.path], unicodedata.normalize("NFC", cells[columns.label])
        if not path:
            raise DataError(f"{where}: no path in column {table.header[columns.path]!r}.")
        if separator is None and not label:
            raise DataError(f"{where}: no label of {path} in column {table.header[columns.label]!r}.")
        names = (label,) if separator is None else tuple(part.strip() for part in label.split(separator))
        split = "" if columns.split is None else _split(table, columns.split, where, cells[columns.split])
        rows.append(Row(line, path, tuple(filter(None, names)), split))
        if columns.split is not None and bool(rows[0].split) != bool(split):
            without = path if rows[0].split else rows[0].path
            raise DataError(
                f"{where}: {without} is in no split, and others are: fill in {table.header[columns.split]!r}."
            )
    if not rows:
        raise DataError(f"{table.path} has no rows: wanted an image in each.")
    return rows


def merged(
    table: Path, rows: Sequence[Row], several: bool
) -> tuple[list[Row], tuple[tuple[str, str], ...], list[str]]:
    """Make one row of those of one file; leave out files whose rows differ.

    Args:
        table: For messages.
        rows: Each with the path of its file.
        several: Whether an image may have several labels; those in several rows are then put together.

    Returns:
        The rows; path and reason of each file that is left out; what was done, a line each.

    Raises:
        DataError: Rows that differ are a tenth of all or more; names two lines.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.path, []).append(row)
    kept: list[Row] = []
    unclear: dict[str, str] = {}
    for path, group in groups.items():
        if len({row.split for row in group}) > 1:
            unclear[path] = "in two rows with different splits"
        elif len({row.classes for row in group}) > 1 and not several:
            unclear[path] = "in two rows with different labels"
        else:
            kept.append(replace(group[0], classes=tuple(sorted({name for row in group for name in row.classes}))))
    concerned = sum(len(groups[path]) for path in unclear)
    if concerned >= MAX_UNCLEAR * len(rows) and unclear:
        path, reason = next(iter(unclear.items()))
        first = groups[path][0]
        other = next(row for row in groups[path] if (row.split, row.classes) != (first.split, first.classes))
        raise DataError(
            f"{table}, line {other.line}: {path} is in line {first.line} already, with another "
            f"{'label' if reason.endswith('labels') else 'split'}: keep one; with a separator, a cell may hold "
            "several labels."
        )
    notes = []
    if more := len(rows) - concerned - len(kept):
        what = "their labels are put together" if several else "they agree, and count once"
        notes.append(f"Rows of {table.name} for a file that another row names already: {more:,}; {what}.")
    if unclear:
        notes.append(f"Left out: rows of {table.name} that contradict another of the same file: {concerned:,}.")
    return kept, tuple(unclear.items()), notes


def _split(table: Table, column: int, where: str, name: str) -> str:
    if not name:
        return ""
    split = split_named(name)
    if split is None:
        raise DataError(
            f"{where}: the split {name!r} in column {table.header[column]!r}: wanted train, validation or test; "
            'split_column="" uses no column, and has the images split here.'
        )
    return split
