"""Which files of a folder are images, of which class, in which split; what is wrong with the rest."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path, PurePosixPath

import numpy as np

from lightning_transfer.data.entries import PICTURE_SUFFIXES, SUFFIXES, below, entries
from lightning_transfer.errors import DataError

SPLITS = ("train", "validation", "test")
# What people call them besides; in any case, for Train is no class either.
VALIDATION_NAMES = frozenset({"validation", "val", "valid", "dev", "eval"})
SPLIT_NAMES = VALIDATION_NAMES | {"train", "training", "test", "testing"}

LAYOUTS = "wanted {root}/train|validation|test/<class>/*.jpg, or {root}/<class>/*.jpg to be split here"


@dataclass(frozen=True)
class Samples:
    """The images of one split.

    Attributes:
        paths: N paths below the scanned root, with forward slashes.
        labels: N class indices.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def first(self, count: int) -> Samples:
        """The first `count` images, the classes taken in turn so that each has its share.

        >>> Samples(("a1", "a2", "b1", "b2"), (0, 0, 1, 1)).first(2).paths
        ('a1', 'b1')
        """
        queues = [
            [position for position, label in enumerate(self.labels) if label == wanted]
            for wanted in sorted(set(self.labels))
        ]
        in_turn = [position for position in chain(*zip_longest(*queues)) if position is not None]
        kept = sorted(in_turn[:count])
        return Samples(tuple(self.paths[i] for i in kept), tuple(self.labels[i] for i in kept))


@dataclass(frozen=True)
class Scan:
    """What a folder of images holds.

    Attributes:
        root: The folder.
        class_names: K names, sorted, in Unicode's composed form; a label is an index into them, the same in every
            split.
        splits: Split name to its images; always "train" and "validation", "test" where there is one.
        left_out: Path below the root and the reason, for each entry that was passed over.
    """

    root: Path
    class_names: tuple[str, ...]
    splits: dict[str, Samples]
    left_out: tuple[tuple[str, str], ...] = ()


def scan_folder(root: str | Path, split: Sequence[float] = (0.5, 0.25, 0.25), seed: int = 0) -> Scan:
    """Finds the images below a folder.

    An image is a regular file, whose name ends in one of `SUFFIXES`. Entries that begin with a dot and
    `__MACOSX` are ignored; links that lead out of the root, names that are not UTF-8, and files of other kinds,
    are left out and listed. Class names that Unicode holds to be the same are the same class.

    Args:
        root: `root/{train,validation,test}/<class>/*` (test may be missing), or `root/<class>/*`.
        split: For the second layout, the shares of train, validation and test; they sum to 1. Each class is
            split by itself, in an order that depends on `seed` and the class's name alone.
        seed: See `split`.

    Raises:
        DataError: No such folder, no classes, one class, a class without images, classes that differ
            between the splits, class names that differ in upper and lower case alone, or a class with fewer
            images than there are splits.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The folder of images {root} {what}: {LAYOUTS.format(root=root)}.")
    left_out: list[tuple[str, str]] = []
    top = list(entries(root, root, left_out))
    folders = [entry.name for entry in top if entry.is_dir()]
    if "train" in folders:
        found = {name: _classes(root, name, left_out) for name in SPLITS if name in folders}
        others = [entry.name for entry in top if entry.name not in found]
        left_out += [(name, "not one of train, validation, test") for name in others]
        class_names = _one_class_map(root, found, [n for n in folders if n.lower() in VALIDATION_NAMES])
        splits = {name: _samples(class_names, classes) for name, classes in found.items()}
    elif misnamed := sorted(name for name in folders if name.lower() in SPLIT_NAMES):
        raise DataError(
            f"{root} has no folder train, but has {', '.join(misnamed)}: {LAYOUTS.format(root=root)}. "
            "Rename the folders so."
        )
    else:
        left_out.clear()  # _classes lists the root's entries once more
        classes = _classes(root, "", left_out)
        _refuse_case_twins(root, {"": classes})
        class_names = _several(root, _checked_names(root, classes))
        splits = _split(root, classes, class_names, split, seed)
    return Scan(root, class_names, splits, tuple(left_out))


def find_images(root: str | Path) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The images below a folder, at any depth; what counts as one is as for `scan_folder`.

    Returns:
        Their paths below the folder, by folder and name; path and reason of each link and name left out.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"The folder {root} does not exist: wanted one with images in it.")
    left_out: list[tuple[str, str]] = []
    images = tuple(_at_any_depth(root, left_out))
    if not images:
        raise DataError(f"There are no images in {root} ({PICTURE_SUFFIXES}), nor in its folders.")
    return images, tuple(left_out)


def _at_any_depth(root: Path, left_out: list[tuple[str, str]]) -> Iterator[str]:
    unfinished = [entries(root, root, left_out)]
    while unfinished:
        entry = next(unfinished[-1], None)
        if entry is None:
            unfinished.pop()
        elif entry.is_dir(follow_symlinks=False):
            unfinished.append(entries(Path(entry.path), root, left_out))
        elif entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES:
            yield below(root, entry)


def _classes(root: Path, split: str, left_out: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Class name to its images' paths below the root, for the folder of one split ("" is the root)."""
    classes: dict[str, list[str]] = {}
    for folder in entries(root / split, root, left_out):
        if not folder.is_dir():
            left_out.append((below(root, folder), "a file beside the class folders"))
            continue
        name = unicodedata.normalize("NFC", folder.name)
        if name in classes:
            raise DataError(
                f"Two class folders in {root / split} are called {name!r}, in two encodings of Unicode: put their "
                "images into one."
            )
        images = classes[name] = []
        for entry in entries(Path(folder.path), root, left_out):
            if not entry.is_file():
                left_out.append((below(root, entry), "not a regular file"))
            elif Path(entry.name).suffix.lower() not in SUFFIXES:
                left_out.append((below(root, entry), f"not an image ({PICTURE_SUFFIXES})"))
            else:
                images.append(below(root, entry))
    return classes


def _checked_names(folder: Path, classes: dict[str, list[str]]) -> tuple[str, ...]:
    if not classes:
        raise DataError(f"{folder} holds no class folders: wanted {folder}/<class>/*.jpg.")
    for name, images in classes.items():
        if not images:
            raise DataError(
                f"The class folder {folder / name} holds no images ({PICTURE_SUFFIXES}): "
                "put some there, or remove it."
            )
    return tuple(sorted(classes))


def _several(root: Path, class_names: tuple[str, ...]) -> tuple[str, ...]:
    if len(class_names) == 1:
        raise DataError(
            f"{root} holds one class only, {class_names[0]!r}: to tell classes apart takes two or more."
        )
    return class_names


def _one_class_map(root: Path, found: dict[str, dict[str, list[str]]], misnamed: Sequence[str]) -> tuple[str, ...]:
    if "validation" not in found:
        hint = f"; rename {root / misnamed[0]} to {root / 'validation'}?" if misnamed else "."
        raise DataError(f"{root} has a folder train but none called validation{hint}")
    _refuse_case_twins(root, found)
    names = {split: _checked_names(root / split, classes) for split, classes in found.items()}
    if len(set(names.values())) > 1:
        missing = [
            f"{root / split} lacks {', '.join(sorted(lacking))}"
            for split, own in names.items()
            if (lacking := set(chain(*names.values())) - set(own))
        ]
        raise DataError(f"The splits hold different classes: {'; '.join(missing)}. Each needs every class.")
    return _several(root, names["train"])


def _refuse_case_twins(root: Path, found: Mapping[str, Mapping[str, list[str]]]) -> None:
    spellings: dict[str, dict[str, PurePosixPath]] = {}
    for split, classes in found.items():
        for name in classes:
            spellings.setdefault(name.lower(), {}).setdefault(name, PurePosixPath(split, name))
    for twins in spellings.values():
        if len(twins) > 1:
            raise DataError(
                f"In {root} the class folders {' and '.join(map(str, twins.values()))} differ in upper and lower "
                "case alone: give them one name."
            )


def _samples(class_names: tuple[str, ...], classes: dict[str, list[str]]) -> Samples:
    labelled = [(path, label) for label, name in enumerate(class_names) for path in classes[name]]
    return Samples(tuple(path for path, _ in labelled), tuple(label for _, label in labelled))


def _split(
    root: Path, classes: dict[str, list[str]], class_names: tuple[str, ...], shares: Sequence[float], seed: int
) -> dict[str, Samples]:
    fits = len(shares) == len(SPLITS) and min(shares[:2]) > 0 and shares[2] >= 0 and abs(sum(shares) - 1) < 1e-6
    if not fits:
        raise DataError(
            f"split={tuple(shares)}: wanted three shares (train, validation, test) that sum to 1, the first two "
            "above 0."
        )
    if seed < 0:
        raise DataError(f"seed={seed}: wanted a whole number from 0 on.")
    parts: dict[str, dict[str, list[str]]] = {name: {} for name in SPLITS}
    for name in class_names:
        images = classes[name]
        # Seeded by the name, so that a class added later leaves the others' split as it was.
        order = np.random.default_rng([seed, *name.encode()]).permutation(len(images))
        bounds = [0, *(round(share * len(images)) for share in np.cumsum(shares))]
        for part, share, start, stop in zip(SPLITS, shares, bounds, bounds[1:], strict=False):
            if share > 0 and start == stop:
                raise DataError(
                    f"The class folder {root / name} holds {len(images):,} images, too few to give {part} "
                    f"its share of {share:.0%}: add images, or change split."
                )
            parts[part][name] = sorted(images[i] for i in order[start:stop])
    return {part: _samples(class_names, parts[part]) for part in SPLITS if any(parts[part].values())}
