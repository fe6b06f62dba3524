"""List the entries of a folder of images, without hidden files and unsafe links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lightning_transfer.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
SUFFIX_LIST = ", ".join(sorted(SUFFIXES))  # for messages


def entries(folder: Path, root: Path, left_out: list[tuple[str, str]]) -> Iterator[os.DirEntry[str]]:
    """List the entries of a folder, in no order.

    Entries that begin with a dot and `__MACOSX` are ignored; links out of the root and names that are not UTF-8
    are left out.

    Args:
        folder: The root or a folder in it.
        root: The folder of images.
        left_out: A list to add the path below the root and the reason of each entry that is left out to.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            listed = list(found)
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read ({error}): give access to it, or remove it."
        ) from error
    for entry in listed:
        name = entry.name
        if name.startswith(".") or name == "__MACOSX":
            continue
        if (entry.is_symlink() or not name.isascii()) and (reason := _reason(entry, root)):
            # A name that is not UTF-8 cannot be printed as it is.
            left_out.append((os.fsencode(_below(root, entry)).decode(errors="backslashreplace"), reason))
            continue
        yield entry


def _below(root: Path, entry: os.DirEntry[str]) -> str:
    return Path(entry.path).relative_to(root).as_posix()


def _reason(entry: os.DirEntry[str], root: Path) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if not entry.is_symlink():
        return ""
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        return "a link that leads nowhere"
    return "" if target.is_relative_to(root.resolve()) else "a link that leads out of the folder"
