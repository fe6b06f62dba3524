"""Read the header and the cells of a CSV file, as editors and spreadsheets save it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_transfer.errors import DataError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
SNIFFED = 20  # lines


@dataclass(frozen=True)
class Table:
    """A header and rows of cells, without spaces around them.

    Attributes:
        path: The file.
        header: The names of its C columns.
        rows: Of each row the number of its line, and C cells.
        notes: What was decided about the file, a line each.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    notes: tuple[str, ...] = ()

    def column(self, position: int) -> list[str]:
        """The cells of one column."""
        return [cells[position] for _, cells in self.rows]


def unreadable(path: Path, error: Exception) -> DataError:
    """The error that a table cannot be read."""
    return DataError(f"The table {path} cannot be read ({error}): wanted a CSV file in UTF-8.")


def read_cells(path: Path) -> Table:
    """Read a table with a header; commas, semicolons or tabs separate its columns.

    Lines without a cell that is filled in are ignored.

    Raises:
        DataError: The file cannot be read, or a row has more cells than the header; names the line.
    """
    notes: list[str] = []
    text = _text(path, notes)
    delimiter = _delimiter(text)
    if delimiter != ",":
        notes.append(f"{path.name}: {DELIMITERS[delimiter]} separate the columns.")
    lines = _lines(path, text, delimiter)
    _, header = next(lines, (1, ()))
    rows = tuple((line, _fitted(path, line, cells, header, delimiter)) for line, cells in lines)
    return Table(path, header, rows, tuple(notes))


def _text(path: Path, notes: list[str]) -> str:
    try:
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252")
            notes.append(f"{path.name} is not UTF-8: it is read as cp1252, the encoding of Windows.")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    if "\0" in text:
        raise DataError(f"The table {path} holds zero bytes, so it is no plain text: save it as CSV in UTF-8.")
    return text


def _delimiter(text: str) -> str:
    lines = text.lstrip().splitlines()[:SNIFFED] or [""]
    # Labels may hold any of them, so only those in the header come into question.
    possible = "".join(delimiter for delimiter in DELIMITERS if delimiter in lines[0])
    if len(possible) < 2:
        return possible or ","
    try:
        return csv.Sniffer().sniff("\n".join(lines), possible).delimiter
    except csv.Error:
        return ","


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    # Strict, because a quotation mark that is never closed would swallow all rows after it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            cells = tuple(cell.strip() for cell in row)
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: it cannot be read ({error}): wanted cells without quotation marks, "
            'or wholly in them, and those inside doubled ("").'
        ) from error


def _fitted(
    path: Path, line: int, cells: tuple[str, ...], header: tuple[str, ...], delimiter: str
) -> tuple[str, ...]:
    if any(cells[len(header) :]):
        raise DataError(
            f"{path}, line {line}: {len(cells)} cells, and the header has {len(header)}: put a cell that holds "
            f"{delimiter!r} in quotation marks."
        )
    return (*cells[: len(header)], *[""] * (len(header) - len(cells)))
