"""Which entries of a folder of images are looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lightning_transfer.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
PICTURE_SUFFIXES = ", ".join(sorted(SUFFIXES))  # to be told


def entries(folder: Path, root: Path, left_out: list[tuple[str, str]]) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder by name.

    Those that begin with a dot and `__MACOSX` are ignored; links that lead out of the root, and names that no text
    file could hold, are left out.

    Args:
        folder: The root or a folder in it.
        root: The folder of images.
        left_out: Takes the path below the root, and the reason, of each entry that is left out.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            ordered = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read ({error}): give access to it, or remove it."
        ) from error
    for entry in ordered:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if complaint := _complaint(entry, root):
            # The name as it can be told, where it is not UTF-8.
            name = os.fsencode(below(root, entry)).decode(errors="backslashreplace")
            left_out.append((name, complaint))
            continue
        yield entry


def below(root: Path, entry: os.DirEntry[str]) -> str:
    """The path of an entry below the root, with forward slashes."""
    return Path(entry.path).relative_to(root).as_posix()


def _complaint(entry: os.DirEntry[str], root: Path) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if not entry.is_symlink():
        return ""
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):  # before Python 3.13 a RuntimeError tells of links in a circle
        return "a link that leads nowhere"
    return "" if target.is_relative_to(root.resolve()) else "a link that leads out of the folder"
