"""Files that are written: whole or not at all, and never in place of another by mistake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_transfer.errors import OutputError


def checked_output(path: str | Path, overwrite: bool) -> Path:
    """A path that may be written to; looked up before any work is done.

    Raises:
        OutputError: Something is there, and is not to be replaced; or its folder cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target} is a folder: wanted the name of a file to write.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} is there already: pass --overwrite to replace it, or another --out.")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist: make it first, or pass another --out.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder {folder} cannot be written to: pass another --out.")
    return target


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path beside the target to write to, which takes the target's place if all goes well, and goes if not."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Brings a file to the disk; of a folder, what was made and renamed in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
