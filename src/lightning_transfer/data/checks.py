"""Images that cannot be used, or that are there twice.

Shapes: H W image.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from rich.progress import track

from lightning_transfer.data.decoding import MAX_PIXELS, UnreadableImageError, load_image
from lightning_transfer.data.folder import Samples, Scan
from lightning_transfer.errors import DataError, OutputError
from lightning_transfer.utils.files import sha256_of, whole_file

TOLD = 5  # groups of equal files
TAIL = 4096  # bytes; by these files of one size mostly differ


def without_bad_images(scan: Scan, report: Path, max_share: float, max_pixels: int = MAX_PIXELS) -> Scan:
    """Decodes every image once, and moves those that cannot be read to `left_out`.

    Args:
        scan: What a folder holds.
        report: A CSV file of path and reason, written where there is something to report.
        max_share: How many may be left out, of all images.
        max_pixels: H · W of the largest file.

    Raises:
        DataError: More are bad; or a split has no readable image of some class.
        OutputError: The report cannot be written.
    """
    bad: list[tuple[str, str]] = []
    splits: dict[str, Samples] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, samples in scan.splits.items():
            results = pool.map(lambda path: _complaint(scan.root / path, max_pixels), samples.paths)
            complaints = list(track(results, f"Checking the {split} images", total=len(samples)))
            kept = [i for i, reason in enumerate(complaints) if not reason]
            bad += [(path, reason) for path, reason in zip(samples.paths, complaints, strict=True) if reason]
            splits[split] = Samples(tuple(samples.paths[i] for i in kept), tuple(samples.labels[i] for i in kept))
    if bad:
        _write_report(report, scan.root, bad)
    _refuse_too_many(scan, splits, len(bad), max_share, report)
    return replace(scan, splits=splits, left_out=(*scan.left_out, *bad))


def _complaint(path: Path, max_pixels: int) -> str:
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


def _refuse_too_many(scan: Scan, kept: dict[str, Samples], bad: int, max_share: float, report: Path) -> None:
    for split, samples in scan.splits.items():
        if bare := set(samples.labels) - set(kept[split].labels):
            names = ", ".join(scan.class_names[label] for label in sorted(bare))
            raise DataError(f"No image of {names} in the {split} split of {scan.root} can be read: see {report}.")
    total = sum(map(len, scan.splits.values()))
    if bad > max_share * total:
        raise DataError(
            f"{bad:,} of {total:,} images in {scan.root} cannot be read, more than max_bad_images={max_share:g} "
            f"of all: mend or remove those listed in {report}, or pass a larger max_bad_images."
        )


def refuse_duplicates(scan: Scan, max_pixels: int = MAX_PIXELS) -> None:
    """Looks for files of equal content in two splits, or under two labels.

    A network would be tested on what it was trained on, or taught that one image is two things. Equal files
    within a class of a split are let be. So are those that cannot be read, which are told when they are decoded.

    Args:
        scan: What a folder holds.
        max_pixels: H · W of the largest file.

    Raises:
        DataError: There are some; lists the first of them.
    """
    places = {
        scan.root / path: (split, label)
        for split, samples in scan.splits.items()
        for path, label in zip(samples.paths, samples.labels, strict=True)
    }
    groups = [list(places)]
    # Each step looks closer at what the one before could not tell apart.
    for content in (_size, _tail, sha256_of):
        alike = (group for mixed in groups for group in _by(content, mixed))
        groups = [group for group in alike if len({places[path] for path in group}) > 1]
    groups = [group for group in groups if not _complaint(group[0], max_pixels)]
    if not groups:
        return
    listed = [_told(scan.root, {places[path]: path for path in reversed(group)}) for group in groups[:TOLD]]
    more = f"; and {len(groups) - TOLD:,} more" if len(groups) > TOLD else ""
    raise DataError(
        f"Files of equal content lie in two splits or two classes of {scan.root}: {'; '.join(listed)}{more}. "
        "Keep one of each, or pass allow_duplicates=True to go on with them."
    )


def _told(root: Path, one_a_place: Mapping[tuple[str, int], Path]) -> str:
    return " = ".join(sorted(path.relative_to(root).as_posix() for path in one_a_place.values())[:3])


def _by(content: Callable[[Path], Hashable], paths: Sequence[Path]) -> list[list[Path]]:
    groups: dict[Hashable, list[Path]] = {}
    for path in paths:
        try:
            groups.setdefault(content(path), []).append(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}): give access to it, or remove it.") from error
    return list(groups.values())


def _size(path: Path) -> int:
    return path.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(TAIL, path.stat().st_size), os.SEEK_END)
        return file.read()
