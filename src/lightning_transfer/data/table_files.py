"""Find the files that the names in a table stand for."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_transfer.data.image_tree import ImageTree
from lightning_transfer.errors import DataError


@dataclass(frozen=True)
class Files:
    """Where the images of a table are.

    Attributes:
        root: The folder that the paths start from.
        paths: For each row the path of its file, or None for a row without one.
        without_row: Paths of the images beside and below those of the table that no row names.
        note: Where the names were found, if that is not the folder that was given.
    """

    root: Path
    paths: tuple[str | None, ...]
    without_row: tuple[str, ...]
    note: str = ""


def trees_of(table: Path, root: Path | None) -> list[ImageTree]:
    """The folders to look in, in order: the root, and the table's own."""
    folders = [table.parent] if root is None or root == table.parent else [root, table.parent]
    return [ImageTree(folder) for folder in folders]


def all_files(trees: Sequence[ImageTree], names: Sequence[str]) -> bool:
    """Whether each of some names is that of an image, all from the same folder."""
    wanted = set(names)
    for tree in trees:
        paths = [tree.normal(name) for name in wanted if name]
        counts = tree.bases(path for path in paths if path is not None)
        if max(counts.values(), default=0) == len(wanted):
            return True
    return False


def find_files(table: Path, trees: Sequence[ImageTree], names: Sequence[tuple[int, str]]) -> Files:
    """Find the folder from which most names lead to an image, and there the image of each name.

    Args:
        table: For messages.
        trees: Where to look; the first that has any of them is taken.
        names: Line and cell of each row.

    Raises:
        DataError: A path leads out of the folder, no file exists, two folders or files fit equally well.
    """
    for tree in trees:
        paths = [tree.normal(name) for _, name in names]
        base = _base(table, tree, [path for path in paths if path is not None])
        if base is None:
            continue
        for (line, name), path in zip(names, paths, strict=True):
            if path is None:
                raise DataError(_leads_out(table, line, name, tree))
        return _found(table, trees, tree, base, names, [path for path in paths if path is not None])
    line, name = names[0]
    for line, name in names:
        if all(tree.normal(name) is None for tree in trees):
            raise DataError(_leads_out(table, line, name, trees[0]))
    line, name = names[0]
    places = " and ".join(str(tree.top) for tree in trees)
    raise DataError(
        f"No row of {table} has a file: that of line {line}, {name}, with or without a suffix, is not in {places} "
        "nor in a folder below (links that lead out are not followed). Pass root, the folder that the paths start "
        "from, or path_column."
    )


def _base(table: Path, tree: ImageTree, paths: Sequence[str]) -> str | None:
    counts = tree.bases(paths)
    if not counts:
        return "" if any(tree.find("", path) for path in paths) else None
    most = max(counts.values())
    best = sorted(base for base, count in counts.items() if count == most)
    if "" in best:
        return ""
    if len(best) > 1:
        folders = " and ".join(str(tree.top / base) for base in best[:3])
        raise DataError(f"The names in {table} are of files in {folders}: pass one of them as root.")
    return best[0]


def _found(
    table: Path,
    trees: Sequence[ImageTree],
    tree: ImageTree,
    base: str,
    names: Sequence[tuple[int, str]],
    paths: Sequence[str],
) -> Files:
    root = tree.top / base
    files: list[str | None] = []
    for (line, name), path in zip(names, paths, strict=True):
        fitting = tree.find(base, path)
        if len(fitting) > 1:
            raise DataError(
                f"{table}, line {line}: {name} may be {' or '.join(fitting)} in {root}: write the suffix, or move "
                "one away."
            )
        files.append(fitting[0] if fitting else None)
    named = {file for file in files if file is not None}
    # Images that have nothing to do with the table may lie in other folders beside it.
    common = posixpath.commonpath([posixpath.dirname(file) for file in named])
    inside = "".join(f"{part}/" for part in (base, common) if part)
    own = [image[len(base) + 1 if base else 0 :] for image in tree.images if image.startswith(inside)]
    note = f"The names in {table.name} are those of files in {root}." if root != trees[0].top else ""
    return Files(root, tuple(files), tuple(path for path in own if path not in named), note)


def _leads_out(table: Path, line: int, name: str, tree: ImageTree) -> str:
    return (
        f"{table}, line {line}: {name} leads out of {tree.top}: write paths relative to a folder that holds all "
        "images, and pass that as root."
    )
