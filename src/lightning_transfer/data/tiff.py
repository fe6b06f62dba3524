"""TIFF files: those that are decoded right, and how many pages they have."""

from __future__ import annotations

import struct
from typing import IO

from PIL.TiffImagePlugin import TiffImageFile

# Tags, by their numbers in the standard.
BITS, COLOURS, PLANES, TILE_WIDTH, TILE_LENGTH, NUMBERS = 258, 262, 284, 322, 323, 339
COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
MAX_TILE = 2048**2  # pixels; one is held as a whole beside the image
MAX_PAGES = 10_000  # that are counted


def open_tiff(file: IO[bytes]) -> TiffImageFile:
    """Read the header of the first page.

    Raises:
        ValueError: What Pillow would decode wrongly, or at any cost.
    """
    image = TiffImageFile(file)
    tags = image.tag_v2
    planes = len(image.getbands()) if tags.get(PLANES, 1) == 2 else 1
    deep = image.mode.startswith("I;16") or max(tags.get(BITS, (1,))) > 8
    if (compression := image.info["compression"]) not in COMPRESSIONS:
        raise ValueError(f"a TIFF compressed by {compression}: wanted LZW, Deflate, PackBits or no compression")
    if set(tags.get(NUMBERS, (1,))) != {1}:
        raise ValueError("a TIFF of float or signed numbers: wanted 8 or 16 bit without sign")
    if tags.get(BITS) == (12,):
        raise ValueError("a TIFF of 12 bits a pixel: wanted 8 or 16")
    if deep and tags.get(COLOURS, 0) == 0:
        raise ValueError("a TIFF of 16 bit where zero is white: wanted zero to be black")
    if deep and planes > 1:
        raise ValueError("a TIFF of 16 bit with a plane for each colour: wanted the colours of a pixel together")
    if tags.get(COLOURS) == 6:  # older Pillow misreads it
        raise ValueError("a TIFF of YCbCr: wanted RGB")
    if tags.get(TILE_WIDTH, 1) * tags.get(TILE_LENGTH, 1) > max(image.width * image.height, MAX_TILE):
        raise ValueError("a TIFF whose tiles are larger than the image")
    if compression == "raw" and _area(image) < image.width * image.height * planes:
        raise ValueError("a TIFF that lacks a part of the image")
    return image


def _area(image: TiffImageFile) -> int:
    """Pixels that are in a strip or a tile; Pillow leaves the others as it finds the memory."""
    boxes = [tile.extents for tile in image.tile if tile.extents]
    return sum((right - left) * (lower - upper) for left, upper, right, lower in boxes)


def count_pages(file: IO[bytes]) -> int:
    """The number of pages of a TIFF, at most `MAX_PAGES`.

    Pillow reads all there is of every page, and compares it to all pages before.
    """
    file.seek(0)
    order = "<" if file.read(4).startswith(b"II") else ">"
    seen: set[int] = set()
    (at,) = struct.unpack(f"{order}I", file.read(4))
    while at and at not in seen and len(seen) < MAX_PAGES:
        file.seek(at)
        if len(head := file.read(2)) < 2:
            break
        seen.add(at)
        file.seek(at + 2 + 12 * struct.unpack(f"{order}H", head)[0])
        if len(link := file.read(4)) < 4:
            break
        (at,) = struct.unpack(f"{order}I", link)
    return max(len(seen), 1)
