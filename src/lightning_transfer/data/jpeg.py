"""JPEG files at a reduced scale."""

from __future__ import annotations

import os
import struct
from typing import IO

from PIL.JpegImagePlugin import JpegImageFile

SCALES = (2, 4, 8)  # that libjpeg decodes at, beside the whole


def open_reduced(file: IO[bytes], at_least: int | None, max_pixels: int) -> JpegImageFile:
    """Read the header, and choose the scale to decode at.

    Args:
        file: A JPEG file.
        at_least: Height and width that are enough, in pixels; None for as many as there are.
        max_pixels: Largest H · W; an image above it is reduced below `at_least`, if an eighth is enough and
            nothing of the full size is kept while it is decoded.
    """
    image = _open(file)
    width, height = image.size
    sizes = [(at_least, at_least) if at_least else image.size]
    if width * height > max_pixels:
        if not _row_by_row(image, file):
            return image
        sizes += [(max(width // scale, 1), max(height // scale, 1)) for scale in SCALES]
    for size in sizes:
        image = _open(file)  # a scale is chosen once
        image.draft(None, size)
        if image.width * image.height <= max_pixels:
            break
    return image


def _open(file: IO[bytes]) -> JpegImageFile:
    file.seek(0)
    return JpegImageFile(file)


def _row_by_row(image: JpegImageFile, file: IO[bytes]) -> bool:
    """Whether libjpeg needs some rows of the image at a time; Pillow has just read the header.

    Of an image that comes in several scans, as a progressive one does, it keeps the coefficients of all rows.
    """
    if image.info.get("progressive"):
        return False
    # The header ends with the start of the first scan, which has all colours if it is the only one.
    colours = len(image.layer)
    scan = struct.pack(">HHB", 0xFFDA, 6 + 2 * colours, colours)
    file.seek(-(8 + 2 * colours), os.SEEK_CUR)
    if file.read(len(scan)) != scan:
        return False
    # 8 × 8 pixels take two bits or more, so a smaller file promises what it does not hold.
    return image.width * image.height <= 256 * os.fstat(file.fileno()).st_size
