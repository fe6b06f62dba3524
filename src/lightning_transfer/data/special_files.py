"""What the files of a data set have that must be decided for all of them: bit depth, and several frames.

Shapes: N samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lightning_transfer.data.decoding import MAX_PIXELS, frames, measure_bit_depth
from lightning_transfer.data.index import ImageIndex

BitDepth = Literal["auto", 8, 10, 12, 14, 16]
DEEP = (".png", ".tif", ".tiff", ".pgm", ".pnm")
SEVERAL = (".gif", ".tif", ".tiff", ".webp")
SAMPLE = 200  # files whose headers tell whether there are 16-bit images at all


def with_special_files(index: ImageIndex, bit_depth: BitDepth, max_pixels: int = MAX_PIXELS) -> ImageIndex:
    """Decide on the bit depth of an index's images; note it, and files of several frames.

    Args:
        index: The images.
        bit_depth: What was asked for.
        max_pixels: Largest H · W of a file.
    """
    if bit_depth != "auto":
        index = replace(index, bit_depth=bit_depth)
    paths = index.paths
    suffixes = {path[path.rfind(".") :] for path in paths}
    if not any(suffix.lower() in (*DEEP, *SEVERAL) for suffix in suffixes):
        return index  # almost all data sets; the rest would look at each path again
    notes = list(index.notes)
    if bit_depth == "auto" and (found := bit_depth_of(index.root, paths, max_pixels)):
        index = replace(index, bit_depth=found)
        notes.append(f"The 16-bit images use {found} bits: 0 to {2**found - 1:,} is black to white.")
    if several := with_several_frames(index.root, paths):
        notes.append(
            f"Of {len(several):,} files with several frames or pages ({several[0]}, …) the first is read."
        )
    return replace(index, notes=tuple(notes))


def bit_depth_of(root: Path, paths: Iterable[str], max_pixels: int = MAX_PIXELS) -> int | None:
    """Return the bit depth that holds all values of the 16-bit images; None if there are none.

    Where none of 200 files, evenly spread, is a 16-bit image, the others are not looked at.

    Args:
        root: The folder that the paths start from.
        paths: N images.
        max_pixels: Largest H · W of a file.
    """
    deep = [root / path for path in paths if path.lower().endswith(DEEP)]
    some = deep[:: max(1, len(deep) // SAMPLE)]
    if measure_bit_depth(some, max_pixels) is None:
        return None
    return measure_bit_depth(deep, max_pixels)


def with_several_frames(root: Path, paths: Iterable[str]) -> list[str]:
    """Return the images of more than one frame or page, of which the first is used."""
    candidates = [path for path in paths if path.lower().endswith(SEVERAL)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(lambda path: frames(root / path), candidates)
        return [path for path, count in zip(candidates, counts, strict=True) if count > 1]
