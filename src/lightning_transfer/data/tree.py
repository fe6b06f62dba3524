"""Read the folders below a root: which images and other files lie where.

Shapes: N samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lightning_transfer.data.entries import SUFFIXES, entries, is_plain_image, is_used
from lightning_transfer.errors import DataError


@dataclass
class Folder:
    """A folder of images.

    Attributes:
        path: Below the root, with forward slashes; "" is the root.
        images: Names of the images in it, sorted.
        others: Names and reasons of what is no image in it.
        folders: The folders in it, by name.
        total: N, how many images it has, those in its folders included.
    """

    path: str
    images: list[str] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)
    total: int = 0

    @property
    def filled(self) -> list[Folder]:
        """The folders in it that have images."""
        return [folder for folder in self.folders.values() if folder.total]

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.rpartition("/")[2]

    def below(self, name: str) -> str:
        """Return the path of what it holds, from the root on."""
        return f"{self.path}/{name}" if self.path else name

    def walk(self) -> Iterator[Folder]:
        """Go through it and all folders in it, each before those inside, by name."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += reversed(folder.folders.values())

    def image_paths(self) -> Iterator[str]:
        """Go through the paths of its images, those of its folders included."""
        for folder in self.walk():
            above = folder.below("")
            yield from (above + name for name in folder.images)


def check_any_folder(root: Path) -> None:
    """Check that there is a folder, for images with or without labels.

    Raises:
        DataError: There is none.
    """
    if not root.is_dir():
        raise DataError(f"The folder {root} does not exist: wanted a folder with images.")


def read_tree(root: Path, follow_links: bool = True) -> Folder:
    """Read a root and all folders below it.

    Entries that begin with a dot and `__MACOSX` are ignored. Links to a folder are followed, but not those inside
    a folder that was reached by a link, and not those that lead upwards.

    Args:
        root: The folder.
        follow_links: Whether links to folders are followed at all.

    Raises:
        DataError: A folder cannot be read; names it.
    """
    top = Folder("")
    done = [top]
    waiting: list[tuple[Folder, bool]] = [(top, False)]
    while waiting:
        folder, linked = waiting.pop()
        for entry in entries(root / folder.path):
            name = entry.name
            if is_plain_image(entry):
                folder.images.append(name)
            elif not is_used(entry, root, folder.others):
                continue
            elif name[name.rfind(".") :].lower() in SUFFIXES and entry.is_file():
                folder.images.append(name)
            elif not entry.is_dir():
                kind = f"not an image: {PurePosixPath(name).suffix.lower() or 'no suffix'}"
                folder.others.append((folder.below(name), kind if entry.is_file() else "not a regular file"))
            elif entry.is_symlink() and (linked or not follow_links or _leads_up(entry)):
                folder.others.append((folder.below(name), "a link to a folder that is there already"))
            else:
                inside = folder.folders[name] = Folder(folder.below(name))
                waiting.append((inside, linked or entry.is_symlink()))
                done.append(inside)
        folder.images.sort()
        folder.others.sort()
        folder.folders = dict(sorted(folder.folders.items()))
    for folder in reversed(done):  # those inside come after
        folder.total = len(folder.images) + sum(inside.total for inside in folder.folders.values())
    return top


def _leads_up(entry: os.DirEntry[str]) -> bool:
    target = Path(entry.path).resolve()
    return Path(entry.path).parent.resolve().is_relative_to(target)
