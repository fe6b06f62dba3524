"""PBM, PGM and PPM files as Pillow images, read with numpy.

Pillow's own reader goes through the values one by one in Python, minutes for a photograph, where the largest value
is neither 255 nor 65535 or where the values are written as text.

Shapes: C channels, H W image.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"  # comments count as space
_HEADER = re.compile(rb"P([1-6])" + (_SPACE + rb"(\d{1,9})") * 2)
_LARGEST = re.compile(_SPACE + rb"(\d{1,5})")
HEADER_BYTES = 65536  # a header with comments; longer ones are not read
TEXT_BYTES = 16  # for a value written as text, with what surrounds it
FULL = 65535


class PnmImageFile(ImageFile.ImageFile):
    """A PBM, PGM or PPM file (P1 to P6).

    Gray of which the header says no more than that it has 16 bit (a largest value of 65535) keeps them, in mode
    "I;16"; all else becomes 8 bit, scaled by the largest value that the header states.
    """

    format = "PNM"
    format_description = "Portable anymap"

    def _open(self) -> None:
        start = self.fp.read(HEADER_BYTES)  # type: ignore[union-attr]
        header = _HEADER.match(start)
        if header is None:
            raise ValueError("a damaged header")
        kind, width, height = map(int, header.groups())
        end, largest = header.end(), 1
        if kind not in (1, 4):
            stated = _LARGEST.match(start, end)
            if stated is None or not 0 < int(stated[1]) <= FULL:
                raise ValueError(f"a largest value that is not from 1 to {FULL}")
            end, largest = stated.end(), int(stated[1])
        if not start[end : end + 1].isspace():
            raise ValueError("a header that does not end")
        if not width or not height:
            raise ValueError("no pixels")
        self._size = width, height
        self._mode = "RGB" if kind in (3, 6) else "I;16" if largest == FULL else "L"
        self.tile = [ImageFile._Tile("pnm", (0, 0, width, height), end + 1, (kind, largest))]


class PnmDecoder(ImageFile.PyDecoder):
    """The pixels of a PBM, PGM or PPM file."""

    _pulls_fd = True

    def decode(self, buffer: object) -> tuple[int, int]:
        """Read all pixels; Pillow's interface wants these arguments and this result."""
        kind, largest = self.args
        width, height = self.state.xsize, self.state.ysize
        values = self._values(kind, largest, width * (3 if kind in (3, 6) else 1), height)
        if kind in (1, 4):
            pixels = np.where(values, 0, 255).astype(np.uint8)  # a one is ink
        elif self.mode == "I;16":
            pixels = values.astype("<u2")
        elif largest == 255:
            pixels = values.astype(np.uint8)
        else:
            scale = (np.arange(FULL + 1, dtype=np.uint32) * 255 + largest // 2) // largest
            pixels = scale.clip(max=255).astype(np.uint8)[values]
        self.set_as_raw(pixels.tobytes(), self.mode)
        return -1, 0

    def _values(self, kind: int, largest: int, columns: int, rows: int) -> NDArray[np.integer]:
        """(H · W · C,), not scaled."""
        if kind <= 3:
            return self._text(kind == 1, rows * columns)
        if kind == 4:
            packed = np.frombuffer(self._read(rows * ((columns + 7) // 8)), np.uint8)
            return np.unpackbits(packed.reshape(rows, -1), axis=1, count=columns).ravel()
        dtype = np.dtype(np.uint8 if largest < 256 else ">u2")
        return np.frombuffer(self._read(rows * columns * dtype.itemsize), dtype)

    def _read(self, size: int) -> bytes:
        content = self.fd.read(size)  # type: ignore[union-attr]
        if len(content) < size:
            raise ValueError("image file is truncated")
        return content

    def _text(self, bits: bool, count: int) -> NDArray[np.integer]:
        text = self.fd.read(TEXT_BYTES * count + HEADER_BYTES)  # type: ignore[union-attr]
        text = re.sub(rb"#[^\r\n]*", b"", text)
        if text.translate(None, b"0123456789 \t\n\r\v\f"):
            raise ValueError("values that are not whole numbers")
        if bits:  # these need no space between them
            values = np.frombuffer(text.translate(None, b" \t\n\r\v\f"), np.uint8) - ord("0")
        else:
            values = np.fromstring(text.decode(), np.int32, sep=" ")
        if len(values) < count:
            raise ValueError("image file is truncated")
        values = values[:count]
        if values.min() < 0 or values.max() > (1 if bits else FULL):
            raise ValueError("values that are too large")
        return values


Image.register_decoder("pnm", PnmDecoder)
