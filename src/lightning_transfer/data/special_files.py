"""What the files of a data set have that must be decided for all of them: bit depth, and several frames.

Shapes: N samples.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal

from lightning_transfer.data.decoding import MAX_PIXELS, frames, measure_bit_depth

BitDepth = Literal["auto", 8, 10, 12, 14, 16]
DEEP = frozenset({".png", ".tif", ".tiff", ".pgm", ".pnm"})
SEVERAL = frozenset({".gif", ".tif", ".tiff", ".webp"})
SAMPLE = 200  # files whose headers tell whether there are 16-bit images at all


def bit_depth_of(root: Path, paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> int | None:
    """Return the bit depth that holds all values of the 16-bit images; None if there are none.

    Where none of 200 files, evenly spread, is a 16-bit image, the others are not looked at.

    Args:
        root: The folder that the paths start from.
        paths: N images.
        max_pixels: Largest H · W of a file.
    """
    deep = [root / path for path in paths if PurePosixPath(path).suffix.lower() in DEEP]
    some = deep[:: max(1, len(deep) // SAMPLE)]
    if measure_bit_depth(some, max_pixels) is None:
        return None
    return measure_bit_depth(deep, max_pixels)


def with_several_frames(root: Path, paths: Sequence[str]) -> list[str]:
    """Return the images of more than one frame or page, of which the first is used."""
    candidates = [path for path in paths if PurePosixPath(path).suffix.lower() in SEVERAL]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(lambda path: frames(root / path), candidates)
        return [path for path, count in zip(candidates, counts, strict=True) if count > 1]
