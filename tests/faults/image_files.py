"""The contents of image files, made to mislead."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def encoded(form, image=NOISE, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def png(width, height, depth, colour_type, pixels, *chunks):
    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    others = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + others + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def promising(form, width, height):
    """A small file whose header promises so many pixels."""
    if form == "PNG":
        return png(width, height, 8, 2, bytes(100))
    content = bytearray(encoded(form))
    if form == "JPEG":
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", height, width)
    elif form == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    else:
        start = content.index(b"VP8 ") + 14
        content[start : start + 4] = struct.pack("<HH", width, height)
    return bytes(content)
