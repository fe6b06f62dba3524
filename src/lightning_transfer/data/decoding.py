"""From an image's file to a uint8 tensor of the wanted size.

Shapes: C channels, H W image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from lightning_transfer.data.formats import frames_of, open_header, open_regular
from lightning_transfer.data.jpeg import open_reduced
from lightning_transfer.errors import DataError
from lightning_transfer.utils.arguments import one_of

Resize = Literal["squash", "crop"]
BIT_DEPTHS = (8, 10, 12, 14, 16)
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

    @property
    def reason(self) -> str:
        """Why, without the file's name."""
        return f"cannot be read ({self.__cause__})"


def load_image(
    path: str | Path, at_least: int | None = None, max_pixels: int = MAX_PIXELS, bit_depth: int = 16
) -> Image.Image:
    """Decode a whole image, upright, as RGB.

    JPEG, PNG, WebP, BMP, TIFF, PBM, PGM, PPM and GIF, told by their content; AVIF and HEIC where Pillow and
    pillow_heif read them. Of several frames or pages it is the first. The EXIF orientation is applied, 16-bit gray
    is scaled to 8 bit, colours of 16 bit keep their upper 8, transparency is laid on white.

    Args:
        path: The file.
        at_least: A larger JPEG may be decoded at a half, a quarter or an eighth of its size, as long as height and
            width stay this large, in pixels: for 150, a photograph of 437 × 374 takes half the time.
        max_pixels: Largest H · W, by the header, looked at before anything is decoded. A JPEG above it is decoded
            at a half, a quarter or an eighth if that is below it; a progressive one needs memory for all of it,
            and is not.
        bit_depth: How many bits of 16-bit gray a camera made use of: 8, 10, 12, 14 or 16. Values are scaled by
            2 ** bit_depth - 1, and clipped. A PGM file whose header states another largest value than 65535 is
            scaled by that instead.

    Raises:
        UnreadableImageError: The file is missing, damaged, too large, of float or 32-bit values or of another
            format; names it.
        DataError: There is no such bit depth.
    """
    one_of("bit_depth", bit_depth, BIT_DEPTHS)
    path = Path(path)
    try:
        return _to_rgb(_decoded(path, at_least, max_pixels), bit_depth)
    except MemoryError:  # the machine's lack, not the file's
        raise
    except Exception as error:  # what damaged files make of a decoder is not to be foreseen
        raise UnreadableImageError(
            f"{path} cannot be read as an image ({' '.join(str(error).split()) or type(error).__name__}): "
            "replace or remove it."
        ) from error


def defect_of(path: str | Path, max_pixels: int = MAX_PIXELS) -> str:
    """Decode an image, and return why it cannot be read; "" if it can."""
    try:
        load_image(path, max_pixels=max_pixels)
    except UnreadableImageError as error:
        return error.reason
    return ""


def frames(path: str | Path) -> int:
    """The number of frames of an animation, or pages of a TIFF, without decoding them.

    `load_image` reads the first. 1 for files that cannot be read; of a TIFF, no more than 10,000 are counted.
    """
    try:
        with open_regular(Path(path)) as file:
            return frames_of(file)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # load_image says what is wrong
        return 1


def measure_bit_depth(paths: Iterable[str | Path], max_pixels: int = MAX_PIXELS) -> int | None:
    """The bit depth that holds all values of some images, for `load_image`.

    Cameras of 12 bit write their values, up to 4095, into files of 16, which would come out nearly black.

    Args:
        paths: The files; those that cannot be read are skipped, and only the headers are read of those that are
            not 16-bit gray.
        max_pixels: Largest H · W of a file.

    Returns:
        The smallest of 8, 10, 12, 14 and 16 that holds the largest value, None if no image is 16-bit gray.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        largest = [value for value in pool.map(lambda path: _largest(Path(path), max_pixels), paths) if value >= 0]
    return next(depth for depth in BIT_DEPTHS if max(largest) < 2**depth) if largest else None


def _largest(path: Path, max_pixels: int) -> int:
    """The largest value of 16-bit gray, -1 if the file is something else."""
    try:
        with open_regular(path) as file:
            if not open_header(file).mode.startswith("I;16"):
                return -1
        return int(np.asarray(_decoded(path, None, max_pixels)).max())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # load_image says what is wrong
        return -1


def _decoded(path: Path, at_least: int | None, max_pixels: int) -> Image.Image:
    """Upright, in the mode of the file."""
    with open_regular(path) as file:
        image = open_header(file)
        width, height = image.size
        if isinstance(image, JpegImageFile):
            image = open_reduced(file, at_least, max_pixels)
        if image.width * image.height > max_pixels:
            raise ValueError(f"{width:,} × {height:,} pixels, more than max_pixels={max_pixels:,}")
        if image.mode in ("I", "F"):
            raise ValueError("32-bit or float values; wanted 8 or 16 bit without sign")
        if isinstance(image, PngImageFile):
            image.verify()  # decoding passes over the checksums
            image = open_header(file)
        image.load()
        return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also rewrites the EXIF data, and fails where a field of it is odd.
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, bit_depth: int) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, and forgets which gray is transparent.
        gray = np.asarray(image, dtype=np.uint32)
        scaled = np.minimum(gray * 255 // (2**bit_depth - 1), 255)
        on_white = np.where(gray == image.info.get("transparency", -1), 255, scaled)
        image = Image.fromarray(on_white.astype(np.uint8))
    if image.mode == "La":  # alpha that the gray is multiplied by
        image = image.convert("LA")
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
    one_of("resize", resize, get_args(Resize))
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
