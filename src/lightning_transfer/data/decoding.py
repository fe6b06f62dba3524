"""From an image's file to a uint8 tensor of the wanted size.

Shapes: C channels, H W image.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor

from lightning_transfer.errors import DataError

Resize = Literal["squash", "crop"]
# How a file begins, and what reads it. Image.open has a limit of pixels of its own, for all of the process, and
# warns of what lies below it.
FORMATS: dict[bytes, Callable[[IO[bytes]], ImageFile]] = {
    rb"\xff\xd8\xff": jpeg_factory,
    rb"\x89PNG\r\n\x1a\n": PngImageFile,
    rb"RIFF.{4}WEBP": WebPImageFile,
    rb"BM": BmpImageFile,
}
MAX_PIXELS = 50_000_000
BACKGROUND = (255, 255, 255)
# What brings an image upright, by its EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(DataError):
    """A file that is called an image, but cannot be decoded as one."""


def load_image(path: str | Path, at_least: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a whole image, upright, as RGB.

    JPEG, PNG, WebP and BMP, told by their content. The EXIF orientation is applied, 16-bit gray is scaled to
    8 bit, transparency is laid on white.

    Args:
        path: The file.
        at_least: A larger JPEG may be decoded at a half, a quarter or an eighth of its size, as long as height and
            width stay this large, in pixels: for 150, a photograph of 437 × 374 takes half the time.
        max_pixels: H · W that a file may promise, as it is stored; looked at before anything is decoded.

    Raises:
        UnreadableImageError: The file is missing, damaged, too large, an animation or of another format; names
            it.
    """
    path = Path(path)
    try:
        # A pipe, for one, would keep whoever opens it waiting.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            image = _opened(file)
            _refuse(image, max_pixels)
            if isinstance(image, PngImageFile):
                image.verify()  # decoding passes over the checksums
                image = _opened(file)
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            return _to_rgb(_upright(image))
    except MemoryError:  # the machine's lack, not the file's
        raise
    except Exception as error:  # what damaged files make of a decoder is not to be foreseen
        raise UnreadableImageError(
            f"{path} cannot be read as an image ({' '.join(str(error).split()) or type(error).__name__}): "
            "replace or remove it."
        ) from error


def _opened(file: IO[bytes]) -> ImageFile:
    """Read only the header."""
    file.seek(0)
    start = file.read(16)
    file.seek(0)
    for signature, decoder in FORMATS.items():
        if re.match(signature, start, re.DOTALL):
            return decoder(file)
    raise ValueError("neither JPEG, PNG, WebP nor BMP" if start else "an empty file")


def _refuse(image: ImageFile, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"{width:,} × {height:,} pixels, more than max_pixels={max_pixels:,}")
    # In a camera's MPO, which is a JPEG, the first image is the photograph, and the others are previews.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError("an animation")


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also rewrites the EXIF data, and fails where a field of it is odd.
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, and forgets which gray is transparent.
        gray = np.asarray(image, dtype=np.uint32)
        on_white = np.where(gray == image.info.get("transparency", -1), 255, gray // 257)
        image = Image.fromarray(on_white.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*BACKGROUND, 255)), image)
    return image.convert("RGB")


def resize_image(image: Image.Image, image_size: int, resize: Resize = "squash") -> Image.Image:
    """Resize an image to `image_size` × `image_size` (bilinear, antialiased).

    Args:
        image: An RGB image.
        image_size: H and W of the result, in pixels.
        resize: "squash" changes the aspect ratio; "crop" scales the shorter side and cuts the middle.

    >>> resize_image(Image.new("RGB", (400, 300)), 150, "crop").size
    (150, 150)
    """
    if resize not in get_args(Resize):
        raise DataError(f"resize={resize!r}: wanted one of {', '.join(get_args(Resize))}.")
    size = (image_size, image_size)
    if resize == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as a (3, H, W) uint8 tensor.

    >>> to_tensor(Image.new("RGB", (4, 2), (255, 0, 7)))[:, 0, 0].tolist()
    [255, 0, 7]
    """
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
