"""Image files that hypothesis thinks of: refused, or decoded right."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FORMATS, encoded, png, tiff
from PIL import Image

from lightning_transfer.data.decoding import UnreadableImageError, frames, load_image, resize_image

Image.init()
MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "I",
    "I;16",
    "F",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
)
BYTES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}
quick = settings(deadline=None, derandomize=True, max_examples=100)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "image.jpg"


def drawn(mode, width, height, seed):
    """An image of noise, and what it looks like in RGB as float; None where nobody says."""
    random = np.random.default_rng(seed)
    size = (height, width)
    if mode in BYTES:
        pixels = random.integers(0, 256, (*size, BYTES[mode]), dtype=np.uint8)
        image = Image.frombytes(mode, (width, height), pixels.tobytes())
        return image, seen(mode, pixels.astype(float))
    if mode == "1":
        pixels = random.random(size) < 0.5
        return Image.fromarray(pixels), np.repeat(pixels[..., None] * 255.0, 3, axis=-1)
    if mode in ("I;16", "I"):
        pixels = random.integers(0, 65536, size)
        image = Image.fromarray(pixels.astype(np.uint16 if mode == "I;16" else np.int32))
        return image, np.repeat(pixels[..., None] / 257, 3, axis=-1)
    if mode == "P":
        colours = random.integers(0, 256, (256, 3), dtype=np.uint8)
        pixels = random.integers(0, 256, size, dtype=np.uint8)
        image = Image.frombytes("P", (width, height), pixels.tobytes())
        image.putpalette(colours.tobytes())
        return image, colours[pixels].astype(float)
    return Image.new(mode, (width, height)), None


def seen(mode, pixels):
    """(H, W, n) channels to (H, W, 3) of red, green and blue, laid on white, from 0 to 255."""
    if mode == "CMYK":
        return (255 - pixels[..., :3]) * (255 - pixels[..., 3:]) / 255
    if mode == "YCbCr":
        y, cb, cr = pixels[..., 0], pixels[..., 1] - 128, pixels[..., 2] - 128
        return np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1).clip(0, 255)
    if mode in ("LA", "RGBA"):
        alpha = pixels[..., -1:] / 255
        pixels = pixels[..., :-1] * alpha + 255 * (1 - alpha)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


@given(
    form=st.sampled_from(FORMATS),
    mode=st.sampled_from(MODES),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32),
)
@settings(quick, max_examples=250)
def test_what_pillow_writes_is_seen_right(path, form, mode, size, seed):
    image, expected = drawn(mode, *size, seed)
    lossless = {"lossless": True, "exact": True} if form == "WEBP" else {}
    content = written(form, image, **lossless)
    if content is None:
        return
    path.write_bytes(content)
    if (form, mode) in {("TIFF", "F"), ("TIFF", "I"), ("TIFF", "YCbCr"), ("PPM", "F")}:
        with pytest.raises(UnreadableImageError):
            load_image(path)
        return
    found = load_image(path)
    assert (found.mode, found.size) == ("RGB", size)
    assert resize_image(found, 8, "crop").size == resize_image(found, 8).size == (8, 8)
    # Of these Pillow writes less than there is.
    lost = (
        (form in ("BMP", "PPM") and mode == "RGBA")
        or (form in ("WEBP", "GIF") and mode in ("I", "I;16"))
        or (form == "GIF" and mode not in ("1", "L", "P"))  # at most 256 colours
    )
    if expected is not None and form != "JPEG" and not lost:
        np.testing.assert_allclose(np.asarray(found, float), expected, atol=2)


def test_whatever_else_pillow_writes_is_refused(path):
    refused = set()
    for form in set(Image.SAVE) - {*FORMATS, "MPO", "AVIF"}:
        for mode in ["RGB"] if form == "ICNS" else MODES:  # it takes its time
            content = written(form, drawn(mode, 9, 7, 0)[0])
            if content is not None:
                path.write_bytes(content)
                with pytest.raises(UnreadableImageError, match="none of JPEG, PNG, WebP, BMP, TIFF"):
                    load_image(path)
                refused.add((form, mode))
    assert {("EPS", "RGB"), ("DIB", "RGB"), ("ICO", "P"), ("SPIDER", "F")} <= refused


def written(form, image, **options):
    """A file's content; None where Pillow has no way to write such an image."""
    try:
        return encoded(form, image, **options)
    except Exception:  # noqa: BLE001  # its writers raise this and that
        return None


@given(mode=st.sampled_from(["L", "RGB", "CMYK", "YCbCr"]), channels=st.binary(min_size=4, max_size=4))
@quick
def test_any_colour_of_a_jpeg_is_seen_right(path, mode, channels):
    colour = np.frombuffer(channels, np.uint8)[: BYTES[mode]]
    image = Image.frombytes(mode, (16, 16), colour.tobytes() * 256)
    path.write_bytes(encoded("JPEG", image, quality=100, subsampling=0))
    expected = np.broadcast_to(seen(mode, colour.astype(float).reshape(1, 1, -1)), (16, 16, 3))
    np.testing.assert_allclose(np.asarray(load_image(path), float), expected, atol=4)


def refused_or_right(path, content, max_pixels=10_000):
    """Whether it was decoded."""
    path.write_bytes(content)
    try:
        image = load_image(path, max_pixels=max_pixels)
    except UnreadableImageError:
        return False
    assert image.mode == "RGB"
    assert 0 < image.width * image.height <= max_pixels
    return True


@given(
    form=st.sampled_from(FORMATS),
    damage=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 40)), min_size=1, max_size=4),
)
@settings(quick, max_examples=250)
def test_damaged_files_are_refused_or_images(path, form, damage):
    content = encoded(form, np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8), exif=EXIF)
    for where, put, instead_of in damage:
        start = int(where * len(content))
        content = content[:start] + put + content[start + instead_of :]
    refused_or_right(path, content)


EXIF = Image.Exif()
EXIF[0x0112] = 6
EXIF[0x011A] = 72.0
edges = st.one_of(st.integers(0, 300), st.sampled_from([2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]))


@given(
    width=edges,
    height=edges,
    depth=st.sampled_from([1, 2, 4, 8, 16, 0, 3, 255]),
    colour_type=st.integers(0, 7),
    transparency=st.one_of(st.none(), st.binary(max_size=8)),
    pixels=st.binary(max_size=64),
)
@quick
def test_any_header_of_a_png_is_refused_or_a_image(path, width, height, depth, colour_type, transparency, pixels):
    chunks = [(b"PLTE", bytes(range(48))), *([] if transparency is None else [(b"tRNS", transparency)])]
    enough = pixels + bytes(width * height * 8 + height if width * height <= 10_000 else 0)
    if refused_or_right(path, png(width, height, depth, colour_type, enough, *chunks)):
        assert load_image(path).size == (width, height)


@given(
    size=st.sampled_from([12, 40, 52, 56, 64, 108, 124, 0, 2**31]),
    width=edges,
    height=edges,
    planes=st.integers(0, 2),
    bits=st.sampled_from([0, 1, 4, 8, 16, 24, 32, 64]),
    compression=st.integers(0, 7),
    colours=st.sampled_from([0, 1, 16, 256, 257, 2**31]),
    offset=st.sampled_from([0, 14, 54, 2**31]),
)
@quick
def test_any_header_of_a_bitmap_is_refused_or_a_image(
    path, size, width, height, planes, bits, compression, colours, offset
):
    header = struct.pack("<2sIHHI", b"BM", 0, 0, 0, offset)
    header += struct.pack("<IIIHHIIIIII", size, width, height, planes, bits, compression, 0, 0, 0, colours, 0)
    refused_or_right(path, header + bytes(5_000))


@given(width=st.integers(0, 2**16 - 1), height=st.integers(0, 2**16 - 1), components=st.binary(max_size=12))
@quick
def test_any_header_of_a_jpeg_is_refused_or_a_image(path, width, height, components):
    content = encoded("JPEG", np.zeros((16, 16, 3), np.uint8))
    start = content.index(b"\xff\xc0") + 5
    header = struct.pack(">HH", height, width) + components
    refused_or_right(path, content[:start] + header + content[start + len(header) :])


numbers = st.one_of(st.integers(0, 40), edges)


@given(
    size=st.tuples(edges, edges),
    bits=st.lists(st.sampled_from([1, 4, 8, 12, 16, 32, 64]), min_size=1, max_size=6),
    colours=st.integers(0, 9),
    strips=st.lists(st.binary(max_size=64), min_size=1, max_size=3),
    order=st.sampled_from("<>"),
    compression=st.sampled_from([1, 2, 5, 6, 7, 8, 32773, 50000, 0]),
    more=st.dictionaries(
        st.sampled_from(
            [f"tag{tag}" for tag in (266, 274, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 530)]
        ),
        st.lists(numbers, min_size=1, max_size=4),
        max_size=4,
    ),
)
@settings(quick, max_examples=250)
def test_any_header_of_a_tiff_is_refused_or_an_image(path, size, bits, colours, strips, order, compression, more):
    strips = [strip + bytes(5_000) for strip in strips]
    refused_or_right(path, tiff(*size, bits, colours, strips, order=order, compression=compression, **more))
    assert frames(path) == 1


@given(
    compression=st.sampled_from(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]),
    mode=st.sampled_from(["1", "L", "P", "I;16", "RGB", "RGBA", "CMYK", "YCbCr"]),
    where=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    put=st.binary(min_size=1, max_size=4),
)
@settings(quick, max_examples=250)
def test_damaged_tiffs_are_refused_or_images(path, compression, mode, where, put):
    content = bytearray(encoded("TIFF", drawn(mode, 16, 20, 0)[0], compression=compression, exif=EXIF))
    for place in where:
        start = int(place * len(content))
        content[start : start + len(put)] = put
    refused_or_right(path, bytes(content))
    assert frames(path) >= 1


@given(
    kind=st.sampled_from("1234567f"),
    fields=st.lists(st.one_of(numbers.map(str), st.sampled_from(["#", "# 3\n", "-1", "", "\n"])), max_size=5),
    pixels=st.one_of(st.binary(max_size=64), st.text("0123456789 \n#-", max_size=64).map(str.encode)),
    enough=st.booleans(),
)
@settings(quick, max_examples=250)
def test_any_pnm_is_refused_or_an_image(path, kind, fields, pixels, enough):
    refused_or_right(path, f"P{kind} {' '.join(fields)} ".encode() + pixels + bytes(60_000 if enough else 0))


@given(
    screen=st.tuples(edges, edges, st.integers(0, 255)),
    box=st.tuples(edges, edges, edges, edges, st.integers(0, 255), st.integers(0, 13)),
    control=st.one_of(st.none(), st.binary(max_size=6)),
    pixels=st.lists(st.binary(max_size=40), max_size=3),
)
@settings(quick, max_examples=250)
def test_any_gif_is_refused_or_an_image(path, screen, box, control, pixels):
    width, height, flags = screen
    content = b"GIF89a" + struct.pack("<HHBBB", width % 2**16, height % 2**16, flags, 0, 0)
    content += bytes(3 << (flags & 7) + 1) if flags & 128 else b""
    if control is not None:
        content += b"!\xf9" + bytes([len(control)]) + control + b"\0"
    content += b"," + struct.pack("<HHHHBB", *(edge % 2**16 for edge in box[:4]), *box[4:])
    content += b"".join(bytes([len(block)]) + block for block in pixels) + b"\0;"
    refused_or_right(path, content)
    assert frames(path) >= 1
