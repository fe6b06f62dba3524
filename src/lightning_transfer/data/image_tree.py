"""Find images below a folder by the ends of their paths, with or without suffix."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from lightning_transfer.data.tree import read_tree


class ImageTree:
    """The images below a folder, listed once.

    Args:
        top: The folder.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self._ends: dict[int, dict[str, list[str]]] = {}

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Paths of all images, by suffix; links out of the folder and hidden files are not among them."""
        return tuple(read_tree(self.top, follow_links=False).image_paths()) if self.top.is_dir() else ()

    def normal(self, name: str) -> str | None:
        r"""A path relative to the folder, with forward slashes; None for one that leads out of it.

        >>> ImageTree(Path("/images")).normal(r"cats\.\1.jpg")
        'cats/1.jpg'
        >>> ImageTree(Path("/images")).normal("/images/1.jpg")
        '1.jpg'
        >>> ImageTree(Path("/images")).normal("cats/../../1.jpg") is None
        True
        """
        path = posixpath.normpath(name.replace("\\", "/"))
        if path.startswith("/"):
            for top in (Path(os.path.abspath(self.top)), self.top.resolve()):  # noqa: PTH100  # links are kept
                if PurePosixPath(path).is_relative_to(top.as_posix()):
                    return PurePosixPath(path).relative_to(top.as_posix()).as_posix()
            return None
        outside = path == ".." or path.startswith("../") or re.match("[A-Za-z]:", path)
        return None if outside else path

    def bases(self, paths: Iterable[str]) -> Counter[str]:
        """Count for each folder in the tree ("" is its top) how many paths lead to an image from there."""
        counts: Counter[str] = Counter()
        for path in set(paths):
            counts.update({base for base, _ in self._candidates(path)})
        return counts

    def find(self, base: str, path: str) -> list[str]:
        """The images that a path from one folder stands for, as paths from there: none, one, or equal stems."""
        found = [image for own, image in self._candidates(path) if own == base]
        if path in found:
            return [path]
        if not found and self._is_file(self.top / base, path):  # other suffixes, links within the folder
            return [path]
        return found

    def _candidates(self, path: str) -> list[tuple[str, str]]:
        """The folders, and paths from there, of all images whose paths end in one."""
        depth = path.count("/") + 1
        if depth not in self._ends:
            ends: dict[str, list[str]] = {}
            for image in self.images:
                if image.count("/") + 1 >= depth:
                    end = _composed("/".join(image.split("/")[-depth:]))
                    for key in (end, end[: end.rindex(".")]):
                        ends.setdefault(key, []).append(image)
            self._ends[depth] = ends
        images = self._ends[depth].get(_composed(path), [])
        pieces = [image.split("/") for image in images]
        return [("/".join(parts[:-depth]), "/".join(parts[-depth:])) for parts in pieces]

    @staticmethod
    def _is_file(folder: Path, path: str) -> bool:
        try:
            file = folder / path
            return file.is_file() and file.resolve().is_relative_to(folder.resolve())
        except OSError:  # a name that is too long, for example
            return False


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
