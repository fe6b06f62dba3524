"""Checks of a data set: unreadable files, duplicates, and whether all processes found the same images.

Shapes: H W image.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import track

from lightning_transfer.data.decoding import MAX_PIXELS, UnreadableImageError, load_image
from lightning_transfer.data.index import ImageIndex, Label, Samples
from lightning_transfer.errors import DataError, OutputError
from lightning_transfer.utils.files import sha256_of, whole_file

MAX_LISTED = 5  # groups of equal files
TAIL = 4096  # bytes; most files of the same size already differ in their last ones


def skip_bad_images(index: ImageIndex, report: Path, max_share: float, max_pixels: int = MAX_PIXELS) -> ImageIndex:
    """Decode every image once, and move those that cannot be read to `left_out`.

    Args:
        index: The images.
        report: A CSV file of path and reason, written if any image is bad.
        max_share: How many may be left out, as a share of all images.
        max_pixels: Largest H · W of a file.

    Raises:
        DataError: More images are bad, or a split has no readable image of some class.
        OutputError: The report cannot be written.
    """
    bad: list[tuple[str, str]] = []
    kept: dict[str, Samples] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, samples in index.splits.items():
            results = pool.map(lambda path: _defect(index.root / path, max_pixels), samples.paths)
            reasons = list(track(results, f"Checking the {split} images", total=len(samples)))
            kept[split] = samples.at(i for i, reason in enumerate(reasons) if not reason)
            bad += [(path, reason) for path, reason in zip(samples.paths, reasons, strict=True) if reason]
    if bad:
        _write_report(report, index.root, bad)
    _refuse_lost_classes(index, kept, report)
    total = sum(map(len, index.splits.values()))
    if len(bad) > max_share * total:
        raise DataError(
            f"{len(bad):,} of {total:,} images in {index.root} cannot be read, more than "
            f"max_bad_images={max_share:g} of all: repair or remove those listed in {report}, or pass a larger "
            "max_bad_images."
        )
    return replace(index, splits=kept, left_out=(*index.left_out, *bad))


def _defect(path: Path, max_pixels: int) -> str:
    try:
        load_image(path, max_pixels=max_pixels)
    except UnreadableImageError as error:
        return f"cannot be read ({error.__cause__})"
    return ""


@rank_zero_only
def _write_report(report: Path, root: Path, bad: Sequence[tuple[str, str]]) -> None:
    try:
        with whole_file(report) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "reason"])
            writer.writerows((root / path, reason) for path, reason in bad)
    except OSError as error:
        raise OutputError(
            f"The list of bad images {report} cannot be written ({error}): pass another bad_image_report."
        ) from error


def _refuse_lost_classes(index: ImageIndex, kept: dict[str, Samples], report: Path) -> None:
    for split, samples in index.splits.items():
        if lost := _classes(samples.labels) - _classes(kept[split].labels):
            names = ", ".join(index.class_names[label] for label in sorted(lost))
            raise DataError(f"No image of {names} in the {split} split of {index.root} can be read: see {report}.")


def _classes(labels: Iterable[Label]) -> set[int]:
    return {i for label in labels for i in (label if isinstance(label, tuple) else (label,))}


def refuse_duplicates(index: ImageIndex, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse files of equal content in two splits, or with two labels.

    A network would be tested on what it was trained on, or taught that one image is two things. Duplicates with
    the same label in the same split are allowed. Files that cannot be read are left to the decoder's error.

    Args:
        index: The images.
        max_pixels: Largest H · W of a file.

    Raises:
        DataError: There are some; lists the first of them.
    """
    places: dict[str, tuple[str, Label]] = {}
    for split, samples in index.splits.items():
        for path, label in zip(samples.paths, samples.labels, strict=True):
            if places.setdefault(path, (split, label)) != (split, label):
                raise DataError(f"{path} is in two splits of {index.root}, or has two labels: keep one of each.")
    groups = equal_files(index.root, list(places), lambda group: len({places[path] for path in group}) > 1)
    groups = [group for group in groups if not _defect(index.root / group[0], max_pixels)]
    if not groups:
        return
    listed = [" = ".join(sorted({places[path]: path for path in reversed(g)}.values())[:3]) for g in groups]
    more = f"; and {len(groups) - MAX_LISTED:,} more" if len(groups) > MAX_LISTED else ""
    raise DataError(
        f"Files of equal content lie in two splits or two classes of {index.root}: "
        f"{'; '.join(listed[:MAX_LISTED])}{more}. "
        "Keep one of each, or pass duplicates=keep to go on with them."
    )


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


def check_agreement(root: Path, found: Sequence[Any]) -> None:
    """Check that all processes of a run found the same images; a single process has nothing to compare.

    Processes with different lists would wait for each other forever, or mix up images.

    Args:
        root: The folder, for the error.
        found: Paths, labels and the like, as plain values.

    Raises:
        DataError: They differ; raised in every process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    own = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    digests = [own] * dist.get_world_size()
    dist.all_gather_object(digests, own)
    if len(set(digests)) > 1:
        different = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
        raise DataError(
            f"Not all processes find the same images in {root}: process {', '.join(different)} and process 0 "
            "differ. Use a folder that all machines share, or copy the same images to each machine."
        )
