"""Find files of equal content, and leave out those that would spoil a result.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lightning_transfer.data.decoding import MAX_PIXELS, defect_of
from lightning_transfer.data.index import SPLITS, ImageIndex, Label, Samples
from lightning_transfer.data.known_files import KnownFiles
from lightning_transfer.errors import DataError

MAX_LISTED = 5  # groups of equal files
REMEDY = "pass duplicates=keep to use them all"


@dataclass(frozen=True)
class Copy:
    """One of several equal images."""

    path: str
    split: str
    label: Label


def drop_duplicates(
    index: ImageIndex, max_pixels: int = MAX_PIXELS, files: KnownFiles | None = None
) -> ImageIndex:
    """Leave out copies in two splits or with two labels.

    A network would be tested on what it was trained on, or taught that one image is two things. Copies with one
    label in splits that were made here go to the same split. In given splits, the copy in train is left out, then
    that in validation, before that in test. Of copies with two labels all are left out. Copies with one label in
    one split stay.

    Args:
        index: The images.
        max_pixels: Largest H · W of a file.
        files: Those of `index.paths`, as far as they are known.

    Raises:
        DataError: Nothing is left of a split.
    """
    groups = _harmful(index, max_pixels, files)
    moved: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for group in groups:
        splits = {copy.split for copy in group}
        if len({copy.label for copy in group}) > 1:
            reasons |= {copy.path: "equal files under different labels" for copy in group}
        elif splits <= index.made_here:
            moved |= {copy.path: group[0].split for copy in group}
        else:
            kept = max(splits, key=SPLITS.index)
            reasons |= {copy.path: f"a copy of an image in {kept}" for copy in group if copy.split != kept}
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


def refuse_duplicates(index: ImageIndex, max_pixels: int = MAX_PIXELS, files: KnownFiles | None = None) -> None:
    """Refuse files of equal content in two splits, or with two labels; see `drop_duplicates`.

    Args:
        index: The images.
        max_pixels: Largest H · W of a file.
        files: Those of `index.paths`, as far as they are known.

    Raises:
        DataError: There are some; lists the first of them.
    """
    groups = _harmful(index, max_pixels, files)
    if not groups:
        return
    listed = [
        " = ".join(sorted({(copy.split, copy.label): copy.path for copy in reversed(group)}.values())[:3])
        for group in groups[:MAX_LISTED]
    ]
    more = f"; and {len(groups) - MAX_LISTED:,} more" if len(groups) > MAX_LISTED else ""
    raise DataError(
        f"Files of equal content lie in two splits or two classes of {index.root}: "
        f"{'; '.join(listed)}{more}. Keep one of each, or {REMEDY}."
    )


def _harmful(index: ImageIndex, max_pixels: int, files: KnownFiles | None) -> list[list[Copy]]:
    """The groups of equal images in two splits or with two labels.

    Files that cannot be read are left to the decoder's error.
    """
    files = KnownFiles(index.root, index.paths) if files is None else files
    places = _places(index)
    _refuse_two_places(index, files.paths, places)
    groups = equal_files(files, places)
    readable = [group for group in groups if _is_readable(group, files, max_pixels)]
    return [[_copy(index, i) for i in group] for group in readable]


def _places(index: ImageIndex) -> NDArray[np.int64]:
    """A number for each image, (N,), that is the same for those of one split and label."""
    labels = chain(*(samples.labels for samples in index.splits.values()))
    distinct = set().union(*(samples.labels for samples in index.splits.values()))
    numbers = {label: number for number, label in enumerate(distinct)}
    found = np.fromiter(map(numbers.__getitem__, labels), np.int64)
    counts = [len(samples) for samples in index.splits.values()]
    splits: NDArray[np.int64] = np.repeat(np.arange(len(counts)), counts)
    return found * len(SPLITS) + splits


def _copy(index: ImageIndex, position: int) -> Copy:
    for split, samples in index.splits.items():
        if position < len(samples):
            return Copy(samples.paths[position], split, samples.labels[position])
        position -= len(samples)
    raise IndexError(position)


def _refuse_two_places(index: ImageIndex, paths: Sequence[str], places: NDArray[np.int64]) -> None:
    # Different hashes are different paths, and take less room than a set.
    if len(np.unique(np.fromiter(map(hash, paths), np.int64, len(paths)))) == len(paths):
        return
    first: dict[str, int] = {}
    for path, place in zip(paths, places.tolist(), strict=True):
        if first.setdefault(path, place) != place:
            raise DataError(f"{path} is in two splits of {index.root}, or has two labels: keep one of each.")


def _is_readable(group: Sequence[int], files: KnownFiles, max_pixels: int) -> bool:
    """Decode one of some equal files, unless it is known what comes of it."""
    if known := [files.defects[position] for position in group if position in files.defects]:
        return not known[0]
    defect = defect_of(files.root / files.paths[group[0]], max_pixels=max_pixels)
    files.note_defects({group[0]: defect})
    return not defect


def equal_files(files: KnownFiles, places: NDArray[np.int64] | None = None) -> list[list[int]]:
    """Group the files of equal content, as positions in order; each is read only as far as it takes to tell it.

    Args:
        files: The files; what is read of them is noted there.
        places: (N,) int64; groups in one place are of no interest. None for any group of two or more.

    Raises:
        DataError: A file cannot be read.
    """
    if len(files) < 2:
        return []
    places = np.arange(len(files)) if places is None else places
    alike = _alike([files.sizes], places)
    files.read_tails(alike)
    alike = alike[_alike([files.sizes[alike], files.tails[alike]], places[alike])]
    groups: dict[tuple[int, bytes], list[int]] = {}
    for position in alike.tolist():
        groups.setdefault((int(files.sizes[position]), files.digest(position)), []).append(position)
    return [group for group in groups.values() if len(set(places[group].tolist())) > 1]


def _alike(keys: list[NDArray[np.int64]], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions, in order, of those with the keys of others in another place."""
    if not len(places):
        return np.empty(0, np.int64)
    order = np.lexsort(keys)
    is_new = np.ones(len(order), bool)
    is_new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    starts = np.flatnonzero(is_new)
    differ = np.maximum.reduceat(places[order], starts) > np.minimum.reduceat(places[order], starts)
    return np.sort(order[differ[np.cumsum(is_new) - 1]])
