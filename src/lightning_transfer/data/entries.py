"""List the entries of a folder of images, without hidden files and unsafe links."""

from __future__ import annotations

import os
from pathlib import Path

from lightning_transfer.errors import DataError

_ALWAYS_READ = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".gif"}
# What these need may be missing, which load_image says; passing them over would hide them.
_MAYBE_READ = {".heic", ".heif", ".avif"}
SUFFIXES = frozenset(_ALWAYS_READ | _MAYBE_READ)
SUFFIX_LIST = ", ".join(sorted(SUFFIXES))  # for messages


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """List the entries of a folder, in no order.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read ({error}): give access to it, or remove it."
        ) from error


def is_plain_image(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is an image that needs no closer look: a regular file, no link, called as images are.

    Almost all entries are, so this decides how long it takes to read a folder.
    """
    name = entry.name
    return (
        name[name.rfind(".") :].lower() in SUFFIXES
        and name[0] != "."
        and name.isascii()
        and entry.is_file(follow_symlinks=False)
    )


def is_used(entry: os.DirEntry[str], root: Path, left_out: list[tuple[str, str]]) -> bool:
    """Whether an entry is one of those that count.

    Entries that begin with a dot and `__MACOSX` are ignored; links out of the root and names that are not UTF-8
    are left out.

    Args:
        entry: An entry of the root or of a folder in it.
        root: The folder of images.
        left_out: A list to add the path below the root and the reason of an entry that is left out to.
    """
    if entry.name.startswith(".") or entry.name == "__MACOSX":
        return False
    if reason := _reason(entry, root):
        path = Path(entry.path).relative_to(root).as_posix()
        # A name that is not UTF-8 cannot be printed as it is.
        left_out.append((os.fsencode(path).decode(errors="backslashreplace"), reason))
    return not reason


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
