"""Find the images in a folder, with their classes and splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from lightning_transfer.data.checks import equal_files
from lightning_transfer.data.entries import SUFFIX_LIST, SUFFIXES, below, entries
from lightning_transfer.data.index import SPLITS, ImageIndex, Samples
from lightning_transfer.data.splitting import split_images
from lightning_transfer.errors import DataError

# Other names for the splits, in lower case; a folder called Train is no class either.
VALIDATION_NAMES = frozenset({"validation", "val", "valid", "dev", "eval"})
SPLIT_NAMES = VALIDATION_NAMES | {"train", "training", "test", "testing"}

LAYOUTS = "wanted {root}/train|validation|test/<class>/*.jpg, or {root}/<class>/*.jpg to be split here"


def scan_folder(
    root: str | Path, split: Sequence[float] = (0.5, 0.25, 0.25), split_seed: int = 0, multi_label: bool = False
) -> ImageIndex:
    """Find the images in a folder of class folders.

    An image is a regular file whose name ends in one of `SUFFIXES`. Entries that begin with a dot and `__MACOSX`
    are ignored; links out of the root, names that are not UTF-8, and other files are left out and listed. Class
    names are sorted, in Unicode's composed form; names that Unicode considers equal are the same class.

    Args:
        root: `root/{train,validation,test}/<class>/*` (test may be missing), or `root/<class>/*`.
        split: For the second layout, the shares of train, validation and test; see `split_images`.
        split_seed: Which images go where, in the second layout.
        multi_label: Whether files of equal content in several class folders are one image with several labels.

    Raises:
        DataError: There is no such folder, it has fewer than two classes or an empty one, the splits have
            different classes, two class names differ only in upper and lower case, or a class has too few images
            to split.
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
        class_names = _common_classes(root, found, [n for n in folders if n.lower() in VALIDATION_NAMES])
        splits = {name: _samples(root, class_names, classes, multi_label) for name, classes in found.items()}
        return ImageIndex(root, class_names, splits, tuple(left_out), multi_label=multi_label)
    if misnamed := sorted(name for name in folders if name.lower() in SPLIT_NAMES):
        raise DataError(
            f"{root} has no folder train, but has {', '.join(misnamed)}: {LAYOUTS.format(root=root)}. "
            "Rename them accordingly."
        )
    left_out.clear()  # _classes lists the root's entries again
    classes = _classes(root, "", left_out)
    _refuse_case_twins(root, {"": classes})
    class_names = _several(root, _checked_names(root, classes))
    samples = _samples(root, class_names, classes, multi_label)
    index = split_images(root, class_names, samples, split, split_seed, multi_label)
    return replace(index, left_out=tuple(left_out))


def find_images(root: str | Path) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Find the images in a folder and its subfolders, by the same rules as `scan_folder`.

    Returns:
        Their paths below the folder, sorted by folder and name; path and reason of each link and name left out.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"The folder {root} does not exist: wanted a folder with images.")
    left_out: list[tuple[str, str]] = []
    images = tuple(_at_any_depth(root, left_out))
    if not images:
        raise DataError(f"There are no images in {root} ({SUFFIX_LIST}), nor in its subfolders.")
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
    """The paths of each class's images, for the folder of one split ("" is the root)."""
    classes: dict[str, list[str]] = {}
    for folder in entries(root / split, root, left_out):
        if not folder.is_dir():
            left_out.append((below(root, folder), "a file beside the class folders"))
            continue
        name = unicodedata.normalize("NFC", folder.name)
        if name in classes:
            raise DataError(
                f"Two class folders in {root / split} are called {name!r}, in two encodings of Unicode: put "
                "their images into one."
            )
        images = classes[name] = []
        for entry in entries(Path(folder.path), root, left_out):
            if not entry.is_file():
                left_out.append((below(root, entry), "not a regular file"))
            elif Path(entry.name).suffix.lower() not in SUFFIXES:
                left_out.append((below(root, entry), f"not an image ({SUFFIX_LIST})"))
            else:
                images.append(below(root, entry))
    return classes


def _checked_names(folder: Path, classes: dict[str, list[str]]) -> tuple[str, ...]:
    if not classes:
        raise DataError(f"{folder} holds no class folders: wanted {folder}/<class>/*.jpg.")
    for name, images in classes.items():
        if not images:
            raise DataError(
                f"The class folder {folder / name} holds no images ({SUFFIX_LIST}): add some, or remove it."
            )
    return tuple(sorted(classes))


def _several(root: Path, class_names: tuple[str, ...]) -> tuple[str, ...]:
    if len(class_names) == 1:
        raise DataError(f"{root} holds one class only, {class_names[0]!r}: wanted two or more.")
    return class_names


def _common_classes(
    root: Path, found: dict[str, dict[str, list[str]]], misnamed: Sequence[str]
) -> tuple[str, ...]:
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
                f"In {root} the class folders {' and '.join(map(str, twins.values()))} differ only in upper and "
                "lower case: give them one name."
            )


def _samples(
    root: Path, class_names: tuple[str, ...], classes: dict[str, list[str]], multi_label: bool
) -> Samples:
    labels = {path: label for label, name in enumerate(class_names) for path in classes[name]}
    if not multi_label:
        return Samples(tuple(labels), tuple(labels.values()))
    copies = {group[0]: group for group in equal_files(root, list(labels))}
    others = {path for group in copies.values() for path in group[1:]}
    paths = tuple(path for path in labels if path not in others)
    return Samples(paths, tuple(tuple(sorted({labels[p] for p in copies.get(path, [path])})) for path in paths))
