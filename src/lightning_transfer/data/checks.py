"""Checks of a data set: unreadable files, and whether all processes found the same images.

Shapes: H W image.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch.distributed as dist
from rich.progress import track

from lightning_transfer.data.decoding import MAX_PIXELS, defect_of
from lightning_transfer.data.index import ImageIndex, Label, Samples
from lightning_transfer.data.known_files import KnownFiles
from lightning_transfer.errors import DataError

MAX_LISTED = 20


def skip_bad_images(
    index: ImageIndex, max_share: float, max_pixels: int = MAX_PIXELS, files: KnownFiles | None = None
) -> ImageIndex:
    """Decode every image once, and move those that cannot be read to `left_out`.

    Args:
        index: The images.
        max_share: How many may be left out, as a share of all images.
        max_pixels: Largest H · W of a file.
        files: Those of `index.paths`; what is known to decode is not decoded again.

    Raises:
        DataError: More images are bad, or a split has no readable image of some class.
    """
    paths = index.paths
    known = {} if files is None else files.defects
    waiting = [position for position in range(len(paths)) if position not in known]
    found = bad_images(index.root, [paths[position] for position in waiting], max_pixels) if waiting else {}
    if files is not None:
        files.note_defects({position: found.get(paths[position], "") for position in waiting})
    bad = {path: why for i, path in enumerate(paths) if (why := known.get(i, "") or found.get(path, ""))}
    kept = {
        split: samples.at(i for i, path in enumerate(samples.paths) if path not in bad)
        for split, samples in index.splits.items()
    }
    _refuse_lost_classes(index, kept)
    total = sum(map(len, index.splits.values()))
    if len(bad) > max_share * total:
        raise DataError(
            f"{len(bad):,} of {total:,} images in {index.root} cannot be read, more than "
            f"max_bad_images={max_share:g} of all: {listed(bad)}. Repair or remove them, or pass a larger "
            "max_bad_images."
        )
    return replace(index, splits=kept, left_out=(*index.left_out, *bad.items()))


def bad_images(root: Path, paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> dict[str, str]:
    """Decode some images below a root, and return path and reason of those that cannot be read."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda path: defect_of(root / path, max_pixels=max_pixels), paths)
        reasons = track(results, "Checking the images", total=len(paths))
        return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def listed(bad: Mapping[str, str]) -> str:
    """Name the first of some bad images, with the reason."""
    shown = [f"{path} {reason}" for path, reason in islice(bad.items(), MAX_LISTED)]
    return "; ".join(shown) + (f"; and {len(bad) - MAX_LISTED:,} more" if len(bad) > MAX_LISTED else "")


def _refuse_lost_classes(index: ImageIndex, kept: dict[str, Samples]) -> None:
    for split, samples in index.splits.items():
        if lost := _classes(samples.labels) - _classes(kept[split].labels):
            names = ", ".join(index.class_names[label] for label in sorted(lost))
            raise DataError(f"No image of {names} in the {split} split of {index.root} can be read.")


def _classes(labels: Iterable[Label]) -> set[int]:
    return {i for label in labels for i in (label if isinstance(label, tuple) else (label,))}


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
    digest = hashlib.sha256()
    for part in json.JSONEncoder().iterencode(found):  # not as one text, which may be long
        digest.update(part.encode())
    own = digest.hexdigest()
    digests = [own] * dist.get_world_size()
    dist.all_gather_object(digests, own)
    if len(set(digests)) > 1:
        different = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
        raise DataError(
            f"Not all processes find the same images in {root}: process {', '.join(different)} and process 0 "
            "differ. Use a folder that all machines share, or copy the same images to each machine."
        )
