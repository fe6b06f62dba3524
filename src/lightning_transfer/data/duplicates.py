"""Find files of equal content, and leave out those that would spoil a result.

Shapes: N samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from lightning_transfer.data.decoding import MAX_PIXELS, UnreadableImageError, load_image
from lightning_transfer.data.index import SPLITS, ImageIndex, Label, Samples
from lightning_transfer.errors import DataError
from lightning_transfer.utils.files import sha256_of

MAX_LISTED = 5  # groups of equal files
TAIL = 4096  # bytes; most files of the same size already differ in their last ones
REMEDY = "pass duplicates=keep to use them all"

Place = tuple[str, Label]  # split and label


def drop_duplicates(index: ImageIndex, max_pixels: int = MAX_PIXELS) -> ImageIndex:
    """Leave out copies in two splits or with two labels.

    A network would be tested on what it was trained on, or taught that one image is two things. Copies with one
    label in splits that were made here go to the same split. In given splits, the copy in train is left out, then
    that in validation, before that in test. Of copies with two labels all are left out. Copies with one label in
    one split stay.

    Args:
        index: The images.
        max_pixels: Largest H · W of a file.

    Raises:
        DataError: Nothing is left of a split.
    """
    places, groups = _harmful(index, max_pixels)
    moved: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for group in groups:
        splits = {places[path][0] for path in group}
        if len({places[path][1] for path in group}) > 1:
            reasons |= dict.fromkeys(group, "equal files under different labels")
        elif splits <= index.made_here:
            moved |= dict.fromkeys(group, places[group[0]][0])
        else:
            kept = max(splits, key=SPLITS.index)
            reasons |= {path: f"a copy of an image in {kept}" for path in group if places[path][0] != kept}
    if not moved and not reasons:
        return index
    found: dict[str, list[tuple[str, Label]]] = {split: [] for split in index.splits}
    for split, samples in index.splits.items():
        for path, label in zip(samples.paths, samples.labels, strict=True):
            if path not in reasons:
                found[moved.get(path, split)].append((path, label))
    for split, pairs in found.items():
        if not pairs:
            raise DataError(f"All images of {split} in {index.root} are copies of others: {REMEDY}.")
    splits_left = {
        split: Samples(tuple(path for path, _ in pairs), tuple(label for _, label in pairs))
        for split, pairs in found.items()
    }
    return replace(index, splits=splits_left, left_out=(*index.left_out, *reasons.items()))


def refuse_duplicates(index: ImageIndex, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse files of equal content in two splits, or with two labels; see `drop_duplicates`.

    Args:
        index: The images.
        max_pixels: Largest H · W of a file.

    Raises:
        DataError: There are some; lists the first of them.
    """
    places, groups = _harmful(index, max_pixels)
    if not groups:
        return
    listed = [" = ".join(sorted({places[path]: path for path in reversed(g)}.values())[:3]) for g in groups]
    more = f"; and {len(groups) - MAX_LISTED:,} more" if len(groups) > MAX_LISTED else ""
    raise DataError(
        f"Files of equal content lie in two splits or two classes of {index.root}: "
        f"{'; '.join(listed[:MAX_LISTED])}{more}. Keep one of each, or {REMEDY}."
    )


def _harmful(index: ImageIndex, max_pixels: int) -> tuple[dict[str, Place], list[list[str]]]:
    """The place of each image; and the groups of equal images in two splits or with two labels.

    Files that cannot be read are left to the decoder's error.
    """
    places: dict[str, Place] = {}
    for split, samples in index.splits.items():
        for path, label in zip(samples.paths, samples.labels, strict=True):
            if places.setdefault(path, (split, label)) != (split, label):
                raise DataError(f"{path} is in two splits of {index.root}, or has two labels: keep one of each.")
    groups = equal_files(index.root, list(places), lambda group: len({places[path] for path in group}) > 1)
    return places, [group for group in groups if _is_readable(index.root / group[0], max_pixels)]


def _is_readable(path: Path, max_pixels: int) -> bool:
    try:
        load_image(path, max_pixels=max_pixels)
    except UnreadableImageError:
        return False
    return True


def equal_files(
    root: Path, paths: Sequence[str], matters: Callable[[Sequence[str]], bool] = lambda group: len(group) > 1
) -> list[list[str]]:
    """Group the files of equal content, in the order of `paths`.

    Args:
        root: The folder that the paths start from.
        paths: The files; each is read only as far as it takes to tell it from the others.
        matters: Whether a group is of interest; others are dropped early.

    Raises:
        DataError: A file cannot be read.
    """
    groups = [list(paths)]
    for content in (_size, _tail, sha256_of):
        groups = [group for mixed in groups for group in _group_by(content, root, mixed) if matters(group)]
    return groups


def _group_by(content: Callable[[Path], Hashable], root: Path, paths: Sequence[str]) -> list[list[str]]:
    groups: dict[Hashable, list[str]] = {}
    for path in paths:
        try:
            groups.setdefault(content(root / path), []).append(path)
        except OSError as error:
            raise DataError(f"{root / path} cannot be read ({error}): give access to it, or remove it.") from error
    return list(groups.values())


def _size(path: Path) -> int:
    return path.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(TAIL, path.stat().st_size), os.SEEK_END)
        return file.read()
