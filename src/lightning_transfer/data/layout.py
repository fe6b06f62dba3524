"""Tell from a tree of folders which are splits and which are classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath

from lightning_transfer.data.split_names import split_in_name, split_named
from lightning_transfer.data.tree import Folder
from lightning_transfer.errors import DataError

LAYOUTS = "{root}/train|validation|test/<class>/*.jpg, or {root}/<class>/*.jpg to be split here"
MAX_NAMED = 3  # in a message
# What is taken for no class where a folder beside it has class folders.
NO_CLASSES = frozenset(
    {"assets", "doc", "docs", "examples", "figures", "figs", "notebooks", "samples", "screenshots"}
)


@dataclass(frozen=True)
class Layout:
    """Which folders hold which classes.

    Attributes:
        splits: The folders of each split's classes; of the split "" where nothing is split yet.
        passed_over: Path and reason of each folder that is not used.
        notes: What was decided, a line each.
        is_inside: Whether it was found below the root, and a note says so.
    """

    splits: dict[str, list[Folder]]
    passed_over: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    is_inside: bool = False


def check_folder(root: Path) -> None:
    """Check that there is a folder of images.

    Raises:
        DataError: There is none; says what would be understood.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The folder of images {root} {what}: wanted {LAYOUTS.format(root=root)}.")


def find_layout(root: Path, top: Folder) -> Layout:
    """Tell which folders are splits and classes.

    Raises:
        DataError: It cannot be decided; says what is there, and what would be understood.
    """
    layout = _layout(root, top)
    if layout is None:
        raise DataError(f"{_description(root, top)} Wanted {LAYOUTS.format(root=root)}.")
    return layout


def _layout(root: Path, folder: Folder) -> Layout | None:
    """The layout of a folder, or of the one in it that has one; None if there is none."""
    if found := _split_layout(root, folder):
        return found
    filled = folder.filled
    split_inside = [found for inside in filled if (found := _split_layout(root, inside))]
    if len(split_inside) == 1:
        return _with_beside(root, folder, split_inside[0])
    _refuse_unlabelled_splits(root, folder)
    if sum(bool(inside.images) for inside in filled) >= 2:
        odd = [inside.name for inside in filled if split_in_name(inside.name)]
        notes = [f"{folder.below(name)} is taken as a class, not as a split." for name in odd]
        return Layout({"": filled}, tuple(_empty(folder)), tuple(notes))
    fitting = [found for inside in filled if (found := _layout(root, inside))]
    if len(fitting) == 1 and all(inside.name.lower() in NO_CLASSES for inside in filled if inside.images):
        return _with_beside(root, folder, fitting[0])
    names = Counter(name for found in fitting for name in {each.name for each in chain(*found.splits.values())})
    if len(filled) < 2 or (names and max(names.values()) > 1):
        return None  # several data sets of the same classes
    notes = [f"Images in folders of {root / inside.path} belong to it." for inside in filled if not inside.images]
    return Layout({"": filled}, tuple(_empty(folder)), tuple(notes[:MAX_NAMED]))


def _split_layout(root: Path, folder: Folder) -> Layout | None:
    """The layout of a folder that holds split folders with class folders in them."""
    named: dict[str, list[Folder]] = {}
    for inside in folder.filled:
        if split := split_in_name(inside.name):
            named.setdefault(split, []).append(inside)
    classes = {split: [_unwrapped(each) for each in found] for split, found in named.items()}
    structured = {split: found for split, found in classes.items() if any(each.filled for each in found)}
    others = [inside for inside in folder.filled if not split_in_name(inside.name)]
    exact = any(split_named(inside.name) == "train" for inside in named.get("train", []))
    if not structured or not ((exact and "train" in structured) or len(structured) >= 2 or not others):
        return None
    for split, found in structured.items():
        if len(found) > 1:
            paths = " and ".join(str(root / inside.path) for inside in named[split])
            raise DataError(f"{paths} both mean {split}: put them into one folder, or rename one.")
    used = {inside.path for split in structured for inside in named[split]}
    beside = [_passed_over(inside, used) for inside in folder.folders.values() if inside.path not in used]
    notes = [
        f"{root / named[split][0].path} is taken as {split}."
        for split in structured
        if named[split][0].name != split
    ]
    if len(structured) == 1:
        ((split, (only,)),) = structured.items()
        notes.append(f"{root / only.path} is the only split, and is split here.")
        return Layout({"": only.filled}, (*beside, *_empty(only)), tuple(notes))
    if "train" not in structured:
        names = " and ".join(str(root / named[split][0].path) for split in structured)
        raise DataError(f"There are {names}, but no images to train on: wanted {LAYOUTS.format(root=root)}.")
    splits = {split: structured[split][0].filled for split in structured}
    empty = [pair for (only,) in structured.values() for pair in _empty(only)]
    return Layout(splits, (*beside, *empty), tuple(notes))


def _unwrapped(folder: Folder) -> Folder:
    """The folder of the class folders, below folders that hold one folder only, as in seg_train/seg_train."""
    while len(folder.filled) == 1 and not folder.images and folder.filled[0].filled:
        folder = folder.filled[0]
    return folder


def _refuse_unlabelled_splits(root: Path, folder: Folder) -> None:
    """Refuse folders called like splits with images and no classes in them, as train_images and test_images."""
    flat = [inside for inside in folder.filled if split_in_name(inside.name) and inside.images]
    splits = {split_in_name(inside.name) for inside in flat}
    if len(splits) >= 2 or (flat and len(flat) == len(folder.filled)):
        names = " and ".join(str(root / inside.path) for inside in flat)
        tables = [path for path, _ in folder.others if path.endswith((".csv", ".tsv"))]
        table = f" If {root / tables[0]} lists their labels, pass that file as the data." if tables else ""
        raise DataError(
            f"{names} {'look like splits, but hold' if len(flat) > 1 else 'looks like a split, but holds'} images "
            "without class folders: "
            f"wanted {LAYOUTS.format(root=root)}.{table} If the images' names carry the label, pass "
            "label_from=name."
        )


def _with_beside(root: Path, folder: Folder, found: Layout) -> Layout:
    """A layout found further down, with what lies beside it."""
    first = next(iter(found.splits.values()))[0]
    depth = len(PurePosixPath(folder.path).parts)
    taken = folder.below(PurePosixPath(first.path).parts[depth])
    beside = [_passed_over(inside, {taken}) for inside in folder.folders.values() if inside.path != taken]
    notes = found.notes if found.is_inside else (f"The images are those in {root / taken}.", *found.notes)
    return replace(found, passed_over=(*beside, *found.passed_over), notes=notes, is_inside=True)


def _passed_over(folder: Folder, used: set[str]) -> tuple[str, str]:
    names = " and ".join(sorted(path.rpartition("/")[2] for path in used))
    if not folder.total:
        return folder.path, "a folder without images"
    unlabelled = split_in_name(folder.name) and not folder.filled
    return folder.path, "images without class folders" if unlabelled else f"a folder beside {names}"


def _empty(folder: Folder) -> list[tuple[str, str]]:
    return [(inside.path, "a folder without images") for inside in folder.folders.values() if not inside.total]


def _description(root: Path, top: Folder) -> str:
    """What a folder holds, for the error that it cannot be understood."""
    filled = top.filled
    others = Counter(
        reason.rpartition(" ")[2]
        for each in top.walk()
        for _, reason in each.others
        if reason.startswith("not an image")
    )
    if not top.total:
        kinds = ", ".join(f"{count:,} {suffix} files" for suffix, count in others.most_common(MAX_NAMED))
        return f"{root} holds no images{f', but {kinds}' if kinds else ''}."
    if not filled:
        return (
            f"{root} holds {top.total:,} images in one folder, which says nothing of their labels: pass a table "
            "of them (CSV) as the data, or label_from=name if the names carry the labels."
        )
    if len(filled) == 1 and filled[0].images:
        return f"{root} holds one class only, {filled[0].name!r}, with {filled[0].total:,} images."
    nested = [inside for inside in filled if inside.filled]
    return (
        f"{root} holds {len(filled):,} folders with images, {_listed(filled)}, of which {len(nested):,} hold "
        f"folders with images themselves, for example {root / nested[0].filled[0].path}: pass the one to use."
    )


def _listed(folders: Sequence[Folder]) -> str:
    names = ", ".join(folder.name for folder in folders[:MAX_NAMED])
    return names + ("…" if len(folders) > MAX_NAMED else "")
