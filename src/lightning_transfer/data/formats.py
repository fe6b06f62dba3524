"""The formats of images, told by how a file begins."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lightning_transfer.data.pnm import PnmImageFile
from lightning_transfer.data.tiff import count_pages, open_tiff

FORMAT_LIST = "JPEG, PNG, WebP, BMP, TIFF, PBM, PGM, PPM, GIF, AVIF, HEIC"  # for messages
AVIF = {b"avif", b"avis"}
HEIC = {b"heic", b"heix", b"hevc"}
EITHER = {b"mif1", b"msf1"}
BRANDS = 1024  # bytes that they are looked for in


def open_regular(path: Path) -> IO[bytes]:
    """Open a file to read; a pipe, for one, would keep whoever opens it waiting."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    return path.open("rb")


def open_header(file: IO[bytes]) -> ImageFile:
    """Read the header alone.

    Raises:
        Exception: What damaged files make of a decoder is not to be foreseen; a ValueError that lists the formats
            for all else.
    """
    file.seek(0)
    start = file.read(16)
    file.seek(0)
    for signature, opener in FORMATS.items():
        if re.match(signature, start, re.DOTALL):
            return opener(file)
    raise ValueError(f"none of {FORMAT_LIST}" if start else "an empty file")


def frames_of(file: IO[bytes]) -> int:
    """The number of frames or pages, from the headers.

    In a camera's MPO, which is a JPEG, the first image is the photograph, and the others are previews.
    """
    image = open_header(file)
    if isinstance(image, TiffImageFile):
        return count_pages(file)
    return max(int(getattr(image, "n_frames", 1)), 1)


def _open_heif(file: IO[bytes]) -> ImageFile:
    """AVIF and HEIC share a container, which says at its beginning what it holds."""
    size = int.from_bytes(file.read(4), "big")
    box = file.read(min(max(size - 4, 0), BRANDS))
    file.seek(0)
    brand, others = box[4:8], {box[at : at + 4] for at in range(12, len(box), 4)}
    if brand in AVIF or (brand in EITHER and others & AVIF):
        return _open_avif(file)
    if brand in HEIC | EITHER:
        return _open_heic(file)
    raise ValueError(f"none of {FORMAT_LIST}")


def _open_avif(file: IO[bytes]) -> ImageFile:
    try:
        from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile
    except ImportError:  # Pillow before 11.3
        SUPPORTED = False  # noqa: N806
    if not SUPPORTED:
        raise ValueError('AVIF, which Pillow reads from 11.3 on; pip install "pillow>=11.3"')
    return AvifImageFile(file)


def _open_heic(file: IO[bytes]) -> ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        # No extra of this package installs it, because its wheels are under the GPL.
        raise ValueError('HEIC, which the package pillow_heif reads; pip install "pillow-heif>=0.18"') from error
    image: ImageFile = HeifImageFile(file)
    return image


# How a file begins, and what reads it. Image.open has a limit of pixels of its own, for all of the process, and
# warns of what lies below it.
FORMATS: dict[bytes, Callable[[IO[bytes]], ImageFile]] = {
    rb"\xff\xd8\xff": JpegImageFile,
    rb"\x89PNG\r\n\x1a\n": PngImageFile,
    rb"RIFF.{4}WEBP": WebPImageFile,
    rb"BM": BmpImageFile,
    rb"II\*\0|MM\0\*": open_tiff,
    rb"P[1-6][\s#]": PnmImageFile,
    rb"GIF8[79]a": GifImageFile,
    rb".{4}ftyp": _open_heif,
}
