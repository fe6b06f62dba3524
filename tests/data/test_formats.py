"""The formats beside JPEG, PNG, WebP and BMP, and the bit depth, against numpy."""

import io
import os
import struct
import sys

import numpy as np
import pytest
from image_files import encoded, png, tiff
from PIL import Image

from lightning_transfer.data.decoding import UnreadableImageError, load_image, measure_bit_depth
from lightning_transfer.errors import DataError

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (12, 20, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (12, 20, 3), dtype=np.uint16)
DEEP[0, :3] = [[0, 255, 256], [257, 65535, 65280], [1, 128, 32768]]
ORIENTATIONS = {1: lambda stored: stored, 2: np.fliplr, 3: lambda s: np.rot90(s, 2), 6: lambda s: np.rot90(s, -1)}
ORIENTATIONS |= {8: np.rot90}


@pytest.fixture
def read(tmp_path):
    """What is in a file, whose name says nothing."""

    def decoded(content, **options):
        (tmp_path / "image").write_bytes(content)
        return np.asarray(load_image(tmp_path / "image", **options), int)

    return decoded


def grays(values):
    return np.repeat(np.asarray(values, int)[..., None], 3, axis=-1)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_tiff(read, compression, mode):
    image = Image.fromarray(NOISE).convert(mode)
    expected = np.asarray(image.convert("RGB"), int)
    for value, upright in ORIENTATIONS.items():
        exif = Image.Exif()
        exif[0x0112] = value
        found = read(encoded("TIFF", image, compression=compression, exif=exif))
        np.testing.assert_allclose(found, upright(expected), atol=1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
def test_tiff_of_16_bit(read, order, compression):
    def strips(values):
        return [row.astype(f"{order}u2").tobytes() for row in np.split(values, 3)]

    options = {"order": order, "compression": compression, "tag278": [4]}
    gray = read(tiff(20, 12, [16], 1, strips(DEEP[..., 0]), **options))
    assert np.array_equal(gray, grays(DEEP[..., 0] // 257))
    colours = read(tiff(20, 12, [16] * 3, 2, strips(DEEP), **options))
    assert np.array_equal(colours, DEEP // 256)
    alpha = np.dstack([DEEP, np.full((12, 20), 65535, np.uint16)])
    opaque = read(tiff(20, 12, [16] * 4, 2, strips(alpha), tag338=[2], **options))
    assert np.array_equal(opaque, DEEP // 256)


def test_tiff_with_a_plane_for_each_colour(read):
    for compression in (1, 8):
        planes = [NOISE[..., colour].tobytes() for colour in range(3)]
        assert np.array_equal(read(tiff(20, 12, [8] * 3, 2, planes, compression=compression, tag284=[2])), NOISE)


def test_tiff_in_tiles(read):
    padded = np.zeros((16, 32), np.uint8)
    padded[:12, :20] = NOISE[..., 0]
    tiles = [padded[:, :16].tobytes(), padded[:, 16:].tobytes()]
    tags = {"tag322": [16], "tag323": [16], "tag324": [8, 8 + 256], "tag325": [256, 256]}
    assert np.array_equal(read(tiff(20, 12, [8], 1, tiles, **tags)), grays(NOISE[..., 0]))


def test_colours_of_16_bit_in_a_png_keep_their_upper_8(read):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
    assert np.array_equal(read(png(20, 12, 16, 2, rows)), DEEP // 256)


def pnm(kind, values, largest, comment=b""):
    height, width = values.shape[:2]
    header = b"P%d\n%s%d %d\n" % (kind, comment, width, height) + (b"" if kind in (1, 4) else b"%d\n" % largest)
    if kind == 4:
        return header + np.packbits(values, axis=1).tobytes()
    if kind > 3:
        return header + values.astype(np.uint8 if largest < 256 else ">u2").tobytes()
    separator = b"" if kind == 1 else b" "
    return header + b"\n".join(separator.join(b"%d" % value for value in row.ravel()) for row in values)


@pytest.mark.parametrize("largest", [1, 9, 100, 255, 256, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_pgm_and_ppm_are_scaled_by_the_largest_value_they_state(read, kind, largest):
    values = RANDOM.integers(0, largest + 1, (5, 7, 3) if kind in (3, 6) else (5, 7))
    values.flat[:2] = 0, largest
    exact = values * 255 / largest
    exact = exact if kind in (3, 6) else np.repeat(exact[..., None], 3, axis=-1)
    for comment in (b"", b"# 3 4\n  # a camera\r\n"):
        found = read(pnm(kind, values, largest, comment))
        assert (found.min(), found.max()) == (0, 255)
        np.testing.assert_allclose(found, exact, atol=1 if largest == 65535 and kind in (2, 5) else 0.5)


@pytest.mark.parametrize("kind", [1, 4])
def test_a_one_in_a_pbm_is_black(read, kind):
    bits = RANDOM.integers(0, 2, (5, 11))
    assert np.array_equal(read(pnm(kind, bits, 1)), grays(255 * (1 - bits)))


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"P5",
            b"P5 2 2",
            b"P5 2 2 255",
            b"P5 2 2 255 abc",
            b"P5 0 2 255 ",
            b"P5 2 2 0 abcd",
            b"P5 2 2 65536 abcd",
        ),
        *(b"P2 2 2 9 1 2 3", b"P2 2 2 9 1 2 3 -4", b"P2 2 2 9 1 2 3 4.5", b"P2 2 2 9 1 2 3 99999", b"P1 2 2 1021"),
        *(b"P2 2 2 9 1 2 3 99999999999999999999", b"P4 9 2 abc", b"P7 2 2 255 abcd", b"P6 2 2 255 abcd"),
        *(b"P5 1000000000 2 255 ", b"P5 99999999999 2 255 ", b"P5 #" + bytes(100_000)),
    ],
)
def test_a_damaged_pnm_is_named(read, content):
    with pytest.raises(UnreadableImageError, match="cannot be read as an image"):
        read(content)


def test_a_large_pnm_takes_no_time(read):
    # Pillow's reader takes 20 seconds for this.
    values = RANDOM.integers(0, 4096, (3000, 4000), dtype=np.uint16)
    assert read(pnm(5, values, 4095)).max() == 255


def test_gif_with_transparency_and_a_frame_smaller_than_the_image(read):
    palette = Image.fromarray(np.array([[0, 1, 2, 1]], dtype=np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[[10, 20, 30], [255, 255, 255], [70, 80, 90], [255, 255, 255]]]
    assert read(encoded("GIF", palette, transparency=1)).tolist() == expected


@pytest.mark.parametrize("value", [1, 3, 6, 8])
def test_avif(read, value):
    Image.init()
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[0x0112] = value
    smooth = np.asarray(Image.fromarray(NOISE).resize((160, 96)), int)
    content = encoded(
        "AVIF", Image.fromarray(smooth.astype(np.uint8)), quality=100, subsampling="4:4:4", exif=exif
    )
    np.testing.assert_allclose(read(content), ORIENTATIONS[value](smooth), atol=12)
    either = content[:8] + b"mif1" + content[12:]
    assert np.array_equal(read(either), read(content))
    with pytest.raises(UnreadableImageError, match="160 × 96 pixels, more than"):
        read(content, max_pixels=1000)
    for length in range(0, len(content), 97):
        with pytest.raises(UnreadableImageError):
            read(content[:length])


@pytest.mark.parametrize("value", [1, 6])
def test_heic(read, value):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = value
    smooth = Image.fromarray(NOISE).resize((160, 96))
    content = encoded_heic(pillow_heif, smooth, exif)
    np.testing.assert_allclose(read(content).mean((0, 1)), np.asarray(smooth).mean((0, 1)), atol=3)
    assert read(content).shape == ((160, 96, 3) if value == 6 else (96, 160, 3))
    with pytest.raises(UnreadableImageError, match="pixels, more than"):
        read(content, max_pixels=1000)
    for length in range(0, len(content) - 1, 97):
        with pytest.raises(UnreadableImageError):
            read(content[:length])


def encoded_heic(pillow_heif, image, exif):
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize(
    ("brand", "others", "package", "remedy"),
    [
        (b"heic", b"mif1", "pillow_heif", 'HEIC, .*pip install "pillow-heif>=0.18"'),
        (b"mif1", b"heic", "pillow_heif", 'HEIC, .*pip install "pillow-heif>=0.18"'),
        (b"hevc", b"msf1", "pillow_heif", 'HEIC, .*pip install "pillow-heif>=0.18"'),
        (b"avif", b"mif1", "PIL.AvifImagePlugin", "AVIF, which Pillow reads from 11.3 on"),
        (b"msf1", b"avis", "PIL.AvifImagePlugin", "AVIF, which Pillow reads from 11.3 on"),
    ],
)
def test_what_reads_heic_and_avif_is_named_where_it_is_missing(read, monkeypatch, brand, others, package, remedy):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnreadableImageError, match=remedy):
        read(struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"miaf" + others + bytes(100))


@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_gray_of_16_bit_is_scaled_by_the_bit_depth(read, depth):
    values = RANDOM.integers(0, 2**depth, (6, 9))
    values.flat[:2] = 0, 2**depth - 1
    expected = np.floor(values * 255 / (2**depth - 1) + 1e-9)
    stored = values.astype(np.uint16)
    for content in (
        encoded("PNG", stored),
        encoded("TIFF", stored),
        tiff(9, 6, [16], 1, [stored.astype(">u2").tobytes()], order=">"),
        pnm(5, values, 65535),
        pnm(2, values, 65535),
    ):
        assert np.array_equal(read(content, bit_depth=depth), grays(expected))
    brighter = np.array([[2**depth - 1, min(2**depth, 65535), 65535]], np.uint16)
    assert (read(encoded("PNG", brighter), bit_depth=depth) == 255).all()


def test_the_bit_depth_leaves_alone_what_states_its_own(read):
    values = RANDOM.integers(0, 4096, (6, 9))
    for content in (
        pnm(5, values, 4095),
        encoded("PNG", NOISE),
        encoded("TIFF", NOISE),
        encoded("PNG", DEEP[..., 0] > 9),
    ):
        assert np.array_equal(read(content, bit_depth=10), read(content))


def test_an_unknown_bit_depth_is_named_with_the_choices(tmp_path):
    with pytest.raises(DataError, match="bit_depth=9: wanted one of 8, 10, 12, 14, 16"):
        load_image(tmp_path / "absent", bit_depth=9)


@pytest.mark.parametrize(
    ("largest", "depth"),
    [(0, 8), (255, 8), (256, 10), (4080, 12), (4095, 12), (4096, 14), (16384, 16), (65535, 16)],
)
def test_the_bit_depth_holds_the_largest_value_of_all_files(tmp_path, monkeypatch, largest, depth):
    dark, bright = np.zeros((4, 5), np.uint16), np.full((4, 5), largest, np.uint16)
    files = {
        "dark.png": encoded("PNG", dark),
        "bright": (encoded("TIFF", bright), encoded("PNG", bright), pnm(5, bright, 65535))[largest % 3],
        "stated.pgm": pnm(5, np.full((4, 5), 60_000), 65534),
        "8.png": encoded("PNG", NOISE),
        "damaged.png": encoded("PNG", bright)[:60],
        "page.png": b"<html>",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in (*files, "absent.png")]
    assert measure_bit_depth(paths) == depth
    others = [path for path in paths if path.name not in ("dark.png", "bright")]
    assert measure_bit_depth(others) is measure_bit_depth([]) is None
    assert measure_bit_depth(paths, max_pixels=19) is None


def test_images_of_8_bit_are_not_decoded_to_measure(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded("PNG", NOISE))
    decoded = []
    monkeypatch.setattr(Image.core, "zip_decoder", lambda *args: decoded.append(args))
    assert measure_bit_depth([tmp_path / "a.png"]) is None
    assert not decoded


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    assert measure_bit_depth([tmp_path / "pipe.tif"]) is None
