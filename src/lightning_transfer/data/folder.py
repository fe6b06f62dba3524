"""Find the images in a folder, with their classes and splits.

Shapes: K classes, N samples.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path, PurePosixPath

from lightning_transfer.data.duplicates import equal_files
from lightning_transfer.data.entries import SUFFIX_LIST
from lightning_transfer.data.index import ImageIndex, Samples
from lightning_transfer.data.known_files import KnownFiles
from lightning_transfer.data.labels_from_names import label_in_name
from lightning_transfer.data.layout import Layout, check_folder, find_layout
from lightning_transfer.data.split_names import split_in_name
from lightning_transfer.data.splitting import SHARES, index_of
from lightning_transfer.data.tree import Folder, check_any_folder, read_tree
from lightning_transfer.errors import DataError

Classes = dict[str, list[str]]  # paths by class name


def scan_folder(
    root: str | Path,
    split: Sequence[float] = SHARES,
    split_seed: int = 0,
    multi_label: bool = False,
    label_pattern: str | None = None,
) -> ImageIndex:
    """Find the images in a folder, as its owner has laid them out.

    Splits are folders called train, validation or test, in any case and by their usual synonyms, also beside other
    words as in `train_images`; classes are the folders in them, or those of a root without splits. Either may lie
    further down, where only one place fits. Images in the folders of a class belong to it. What was decided is in
    the index's `notes`, what is not used in `left_out`.

    An image is a regular file whose name ends in one of `SUFFIXES`. Entries that begin with a dot and `__MACOSX`
    are ignored; links out of the root and names that are not UTF-8 are left out. Class names are sorted, in
    Unicode's composed form; names that Unicode considers equal are the same class.

    Args:
        root: The folder.
        split: Shares of train, validation and test where they are made here; see `index_of`.
        split_seed: Which images go where then.
        multi_label: Whether files of equal content in several class folders are one image with several labels.
        label_pattern: Take labels from the images' names, by this regular expression, instead of from folders; see
            `label_in_name`.

    Raises:
        DataError: There is no such folder; it cannot be told what is a class and what a split; there are fewer
            than two classes; validation or test has a class that train has not, or two class names differ only in
            case.
    """
    root = Path(root)
    check_folder(root)
    found, layout, left_out = _read(root, label_pattern)
    class_names, warnings = _class_names(root, found)
    splits = {name: _samples(root, class_names, classes, multi_label) for name, classes in found.items()}
    index = index_of(root, class_names, splits, split, split_seed, multi_label)
    used = {path for path, _ in layout.passed_over}
    kept = [pair for pair in left_out if not used.intersection(_above(pair[0]))] if used else left_out
    return replace(
        index,
        left_out=(*kept, *layout.passed_over),
        notes=(*layout.notes, *index.notes),
        warnings=(*warnings, *index.warnings),
    )


def _read(root: Path, label_pattern: str | None) -> tuple[dict[str, Classes], Layout, list[tuple[str, str]]]:
    """The images of each split and class, what was decided, and what is left out.

    The layout comes without its folders, so that the names in them are gone before the images are split.
    """
    top = read_tree(root)
    left_out = [pair for folder in top.walk() for pair in folder.others]
    layout = find_layout(root, top) if label_pattern is None else Layout(_by_split(top))
    found: dict[str, Classes] = {}
    for name, folders in layout.splits.items():
        if label_pattern is None:
            found[name] = _classes(root, folders)
        else:
            found[name], unlabelled = _labelled_by_name(folders, label_pattern)
            left_out += [(path, "a name that label_pattern does not fit") for path in unlabelled]
    if label_pattern is None:
        left_out += _in_no_class(top, found)
    return found, replace(layout, splits={}), left_out


def find_images(root: str | Path) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Find the images in a folder and its subfolders, by the same rules as `scan_folder`.

    Returns:
        Their paths below the folder, sorted by folder and name; path and reason of each file left out.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    root = Path(root)
    check_any_folder(root)
    top = read_tree(root, follow_links=False)
    if not top.total:
        raise DataError(f"There are no images in {root} ({SUFFIX_LIST}), nor in its subfolders.")
    return tuple(sorted(top.image_paths())), tuple(pair for folder in top.walk() for pair in folder.others)


def _by_split(top: Folder) -> dict[str, list[Folder]]:
    """The folders of each split, where labels are in names: those called like splits, or the whole root."""
    named = {folder.path: split_in_name(folder.name) for folder in top.filled}
    splits: dict[str, list[Folder]] = {}
    for folder in top.filled:
        if name := named[folder.path]:
            splits.setdefault(name, []).append(folder)
    return splits if len(splits) > 1 and "train" in splits else {"": [top]}


def _labelled_by_name(folders: Sequence[Folder], pattern: str) -> tuple[Classes, list[str]]:
    classes: Classes = {}
    unlabelled: list[str] = []
    for path in chain(*(folder.image_paths() for folder in folders)):
        if label := label_in_name(path, pattern):
            classes.setdefault(unicodedata.normalize("NFC", label), []).append(path)
        else:
            unlabelled.append(path)
    return classes, unlabelled


def _classes(root: Path, folders: Sequence[Folder]) -> Classes:
    classes: Classes = {}
    for folder in folders:
        name = unicodedata.normalize("NFC", folder.name)
        if name in classes:
            raise DataError(
                f"Two class folders in {(root / folder.path).parent} are called {name!r}, in two encodings of "
                "Unicode: put their images into one."
            )
        classes[name] = list(folder.image_paths())
    return classes


def _class_names(root: Path, found: Mapping[str, Classes]) -> tuple[tuple[str, ...], list[str]]:
    """The names of all classes; and a warning for each split that lacks one."""
    _refuse_case_twins(root, found)
    names = set(chain(*found.values()))
    if len(names) < 2:
        which = f"one class only, {names.pop()!r}" if names else "no class"
        raise DataError(f"{root} holds {which}: wanted two or more.")
    train = set(found.get("train", names))
    for split in ("validation", "test"):
        if unknown := set(found.get(split, ())) - train:
            raise DataError(
                f"{', '.join(sorted(unknown))}: in {split} of {root}, but not in train. Add images to train on, "
                "or take them out."
            )
    warnings = [
        f"{split} has no images of {', '.join(sorted(names - set(classes)))}."
        for split, classes in found.items()
        if names - set(classes)
    ]
    return tuple(sorted(names)), warnings


def _refuse_case_twins(root: Path, found: Mapping[str, Classes]) -> None:
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


def _samples(root: Path, class_names: tuple[str, ...], classes: Classes, multi_label: bool) -> Samples:
    if not multi_label:
        paths = tuple(chain(*(classes.get(name, ()) for name in class_names)))
        counted = [repeat(label, len(classes.get(name, ()))) for label, name in enumerate(class_names)]
        return Samples(paths, tuple(chain(*counted)))
    labels = {path: label for label, name in enumerate(class_names) for path in classes.get(name, ())}
    files = KnownFiles(root, tuple(labels))
    copies = {files.paths[group[0]]: [files.paths[i] for i in group] for group in equal_files(files)}
    others = {path for group in copies.values() for path in group[1:]}
    paths = tuple(path for path in labels if path not in others)
    return Samples(paths, tuple(tuple(sorted({labels[p] for p in copies.get(path, [path])})) for path in paths))


def _in_no_class(top: Folder, found: Mapping[str, Classes]) -> list[tuple[str, str]]:
    used = [path for classes in found.values() for paths in classes.values() for path in paths]
    if len(used) == top.total:
        return []
    known = set(used)
    return [(path, "an image in no class folder") for path in top.image_paths() if path not in known]


def _above(path: str) -> set[str]:
    return {str(parent) for parent in PurePosixPath(path).parents}
