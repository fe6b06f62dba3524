"""Find out which columns of a table hold paths, labels and splits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lightning_transfer.data.table_text import Table
from lightning_transfer.errors import DataError

# In order of preference; without spaces, "_" and "-", in lower case.
PATHS = (
    *("path", "filepath", "imagepath", "imgpath", "filename", "imagefilename", "imagefile", "file"),
    *("imagename", "imgname", "image", "images", "img", "picture", "photo"),
    *("imageid", "imgid", "fileid", "id", "name"),
)
LABELS = (
    *("label", "labels", "class", "classes", "classname", "classlabel", "labelname", "target", "category"),
    *("categories", "categoryname", "tags", "tag", "species", "breed", "diagnosis", "dx", "y"),
)
SPLITS = ("split", "splitname", "set", "subset", "partition", "foldname")

AllFiles = Callable[[Sequence[str]], bool]


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None for one to be found.

    Attributes:
        path: Paths or names of the images.
        label: Class names.
        split: Names of splits; "" for a table to be split here.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Positions:
    """Where in a row the cells are.

    Attributes:
        path: Of the path.
        label: Of the label.
        split: Of the split; None for a table without splits.
    """

    path: int
    label: int
    split: int | None


def find_columns(table: Table, wanted: Columns, all_files: AllFiles) -> Positions:
    """Find columns by their names, and that of the paths by its cells if no name is known.

    Case, spaces, "_" and "-" in names do not matter. Of several known names the first in `PATHS`, `LABELS` and
    `SPLITS` is taken. In a table of two columns the label is beside the path, whatever it is called.

    Args:
        table: With a header.
        wanted: Names that are given.
        all_files: Whether there is a file for each of some cells.

    Raises:
        DataError: A given column does not exist, or one that is needed is not found or found twice.
    """
    path, label, split = (_given(table, name) for name in (wanted.path, wanted.label, wanted.split))
    if wanted.split is None:
        split = _by_name(table, SPLITS, {path, label}, "split_column")
    if label is None:
        label = _by_name(table, LABELS, {path, split}, "label_column")
    others = [i for i in range(len(table.header)) if i not in (label, split)]
    two = len(table.header) == 2
    if path is None and label is None and two:
        # Names such as "name" and "id" may be those of either column: the files decide.
        path = _by_files(table, others, all_files)
    if path is None:
        path = _by_name(table, PATHS, {label, split}, "path_column")
    if path is None:
        path = _by_files(table, others, all_files)
    if label is None and path is not None and two:
        label = next((i for i in others if i != path), None)
    if path is None or label is None:
        raise DataError(_nothing_fits(table, path, label))
    return Positions(path, label, split)


def with_header(table: Table, all_files: AllFiles) -> Table:
    """Give a table of two columns whose first line is already an image a header."""
    if len(table.header) != 2 or any(_plain(name) in (*PATHS, *LABELS, *SPLITS) for name in table.header):
        return table
    found = [i for i in (0, 1) if all_files([table.header[i], *table.column(i)])]
    if len(found) != 1:
        return table
    note = f"{table.path.name} has no header: its first line is an image like the others."
    header = ("path", "label") if found[0] == 0 else ("label", "path")
    return replace(table, header=header, rows=((1, table.header), *table.rows), notes=(*table.notes, note))


def told(table: Table, wanted: Columns, found: Positions) -> str:
    """Say in a line which columns are used, or "" if all of them were given."""
    if None not in (wanted.path, wanted.label, wanted.split):
        return ""
    header = table.header
    splits = "no column of splits" if found.split is None else f"splits in {header[found.split]!r}"
    path, label = header[found.path], header[found.label]
    return f"{table.path.name}: paths are in column {path!r}, labels in {label!r}, {splits}."


def _given(table: Table, name: str | None) -> int | None:
    if not name:
        return None
    if table.header.count(name) != 1:
        what = "several columns" if name in table.header else "no column"
        raise DataError(f"{table.path} has {what} {name!r}, {_listed(table)}: pass another name, or correct them.")
    return table.header.index(name)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _by_name(table: Table, names: Sequence[str], taken: set[int | None], flag: str) -> int | None:
    plain = [_plain(name) for name in table.header]
    for name in names:
        found = [i for i, own in enumerate(plain) if own == name and i not in taken]
        if len(found) > 1:
            twins = " and ".join(repr(table.header[i]) for i in found)
            raise DataError(f"{table.path} has the columns {twins}: pass {flag}, or rename one.")
        if found:
            return found[0]
    return None


def _by_files(table: Table, positions: Sequence[int], all_files: AllFiles) -> int | None:
    found = [i for i in positions if table.rows and all_files(table.column(i))]
    return found[0] if len(found) == 1 else None


def _nothing_fits(table: Table, path: int | None, label: int | None) -> str:
    missing = [
        f"{what} (such as {', '.join(names[:4])})"
        for what, names, found in (("paths", PATHS, path), ("labels", LABELS, label))
        if found is None
    ]
    flags = [flag for flag, found in (("path_column", path), ("label_column", label)) if found is None]
    return f"{table.path} has no column of {' or '.join(missing)}, {_listed(table)}: pass {' and '.join(flags)}."


def _listed(table: Table) -> str:
    return f"only {', '.join(table.header) or 'an empty first line'}"
