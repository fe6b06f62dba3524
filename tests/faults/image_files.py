"""The contents of image files, made to mislead."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")


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


def tiff(width, height, bits, colours, strips, order="<", compression=1, **more):
    """A TIFF with the strips behind the header, whose fields are of no type but LONG; `more` sets others."""
    strips = [zlib.compress(strip) if compression == 8 else strip for strip in strips]
    starts = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    fields = {256: [width], 257: [height], 258: bits, 259: [compression], 262: [colours], 273: starts}
    fields |= {277: [len(bits)], 278: [height], 279: [len(strip) for strip in strips]}
    fields |= {int(name.removeprefix("tag")): values for name, values in more.items()}
    if 324 in fields:  # tiles
        fields = {tag: values for tag, values in fields.items() if tag not in (273, 278, 279)}
    at = 8 + sum(map(len, strips))
    behind = at + 2 + 12 * len(fields) + 4
    directory, values_behind = struct.pack(f"{order}H", len(fields)), b""
    for tag, values in sorted(fields.items()):
        content = struct.pack(f"{order}{len(values)}I", *values)
        directory += struct.pack(f"{order}HHI", tag, 4, len(values))
        if len(values) > 1:
            directory += struct.pack(f"{order}I", behind + len(values_behind))
            values_behind += content
        else:
            directory += content
    mark = b"II" if order == "<" else b"MM"
    header = mark + struct.pack(f"{order}HI", 42, at)
    return header + b"".join(strips) + directory + bytes(4) + values_behind


def promising(form, width, height):
    """A small file whose header promises so many pixels."""
    if form == "PNG":
        return png(width, height, 8, 2, bytes(100))
    if form == "TIFF":
        return tiff(width, height, [8, 8, 8], 2, [bytes(100)], compression=8)
    if form == "PPM":
        return b"P6 %d %d 255 " % (width, height) + bytes(100)
    content = bytearray(encoded(form))
    if form == "JPEG":
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", height, width)
    elif form == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    elif form == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    else:
        start = content.index(b"VP8 ") + 14
        content[start : start + 4] = struct.pack("<HH", width, height)
    return bytes(content)
