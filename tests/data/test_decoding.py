"""Decoding and resizing against numpy, Pillow and torchvision."""

import struct

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms.v2 import functional

from lightning_transfer.data.decoding import UnreadableImageError, load_image, resize_image, to_tensor
from lightning_transfer.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)

# What the EXIF standard says must be done with the rows and columns as stored.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: np.rot90(stored, 2),
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def save(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("value", UPRIGHT)
def test_orientation_is_applied(tmp_path, suffix, value):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", NOISE, exif=orientation(value), **options)
    assert np.array_equal(load_image(path), UPRIGHT[value](NOISE))


@pytest.mark.parametrize("value", UPRIGHT)
def test_orientation_of_a_jpeg_is_applied(tmp_path, value):
    blocks = np.kron(NOISE[:2, :3], np.ones((16, 16, 1), dtype=np.uint8))
    path = save(tmp_path / "a.jpg", blocks, exif=orientation(value), quality=100, subsampling=0)
    np.testing.assert_allclose(np.asarray(load_image(path), float), UPRIGHT[value](blocks), atol=3)


def test_an_unknown_orientation_changes_nothing(tmp_path):
    assert np.array_equal(load_image(save(tmp_path / "a.png", NOISE, exif=orientation(9))), NOISE)


def test_orientation_is_applied_where_another_field_of_the_exif_data_is_odd(tmp_path):
    # XResolution as text, where the standard has a fraction; Pillow reads it, but cannot write it again.
    entries = [(0x0112, 3, 1, struct.pack("<HH", 6, 0)), (0x011A, 2, 3, b"72\0\0")]
    fields = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + fields + struct.pack("<I", 0)
    path = save(tmp_path / "a.png", NOISE, exif=exif)
    with Image.open(path) as image, pytest.raises(TypeError):
        ImageOps.exif_transpose(image)
    assert np.array_equal(load_image(path), np.rot90(NOISE, -1))


@pytest.mark.parametrize("value", [1, 6])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, value):
    stored = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)
    path = save(tmp_path / "a.png", stored, exif=orientation(value))
    with Image.open(path) as image:
        assert np.asarray(image).max() == 65535, "the file itself is not 16-bit"
    decoded = np.asarray(load_image(path), float)
    assert decoded.max() == 255
    for channel in range(3):
        np.testing.assert_allclose(decoded[..., channel], UPRIGHT[value](stored) / 257, atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_white(tmp_path, mode):
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, len(mode)), dtype=np.uint8)
    pixels[0, :3, -1] = 0, 128, 255
    alpha = pixels[..., -1:] / 255
    expected = np.broadcast_to(pixels[..., :-1] * alpha + 255 * (1 - alpha), (9, 7, 3))
    np.testing.assert_allclose(np.asarray(load_image(save(tmp_path / "a.png", pixels)), float), expected, atol=1)


def test_transparent_colours_become_white(tmp_path):
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
    assert np.asarray(load_image(save(tmp_path / "a.png", palette, transparency=1))).tolist() == expected
    colours = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], dtype=np.uint8)
    assert (
        np.asarray(load_image(save(tmp_path / "b.png", colours, transparency=(40, 50, 60)))).tolist() == expected
    )


def test_gray_palette_and_two_colours(tmp_path):
    gray = NOISE[..., 0]
    assert np.array_equal(load_image(save(tmp_path / "a.png", gray)), np.stack([gray] * 3, axis=-1))
    palette = Image.fromarray(NOISE).quantize(16)
    assert np.array_equal(load_image(save(tmp_path / "b.png", palette)), palette.convert("RGB"))
    expected = np.stack([np.where(gray > 99, 255, 0)] * 3, axis=-1)
    assert np.array_equal(load_image(save(tmp_path / "c.png", gray > 99)), expected)


def test_cmyk(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (200, 100, 30, 60)), quality=100)
    expected = [(255 - ink) * (255 - 60) / 255 for ink in (200, 100, 30)]
    np.testing.assert_allclose(np.asarray(load_image(path), float), np.broadcast_to(expected, (16, 16, 3)), atol=4)


def test_the_content_decides_not_the_suffix(tmp_path):
    assert np.array_equal(load_image(save(tmp_path / "really_a_bitmap.jpg", NOISE, format="BMP")), NOISE)


@pytest.mark.parametrize("size", [6, 12, 50])
def test_squash_resizes_both_sides(size):
    squashed = resize_image(Image.fromarray(NOISE), size, "squash")
    assert squashed == Image.fromarray(NOISE).resize((size, size), Image.Resampling.BILINEAR)
    of_torchvision = functional.resize(torch.from_numpy(NOISE).permute(2, 0, 1), [size, size], antialias=True)
    torch.testing.assert_close(to_tensor(squashed), of_torchvision, atol=1, rtol=0)


@pytest.mark.parametrize("size", [6, 12, 48])
@pytest.mark.parametrize("portrait", [False, True])
def test_crop_scales_the_shorter_side_and_cuts_the_middle(size, portrait):
    image = Image.fromarray(NOISE.swapaxes(0, 1) if portrait else NOISE)
    longer, margin = size * 20 // 12, size * 4 // 12
    if portrait:
        expected = image.resize((size, longer), Image.Resampling.BILINEAR).crop((0, margin, size, margin + size))
    else:
        expected = image.resize((longer, size), Image.Resampling.BILINEAR).crop((margin, 0, margin + size, size))
    np.testing.assert_allclose(np.asarray(resize_image(image, size, "crop"), float), expected, atol=1)


def test_an_unknown_resize_is_named_with_the_choices():
    with pytest.raises(DataError, match="resize='stretch': wanted one of squash, crop"):
        resize_image(Image.new("RGB", (4, 4)), 2, "stretch")


def test_to_tensor_is_channels_height_width_in_fresh_memory():
    image = Image.fromarray(NOISE)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.numpy(), NOISE.transpose(2, 0, 1))
    tensor.zero_()
    assert np.array_equal(image, NOISE), "the tensor shares the image's memory"


def bad_files(folder):
    """One file for each way in which a file can fail to be an image."""
    for suffix in ("jpg", "png", "webp", "bmp", "tif", "ppm", "gif"):
        whole = save(folder / f"whole.{suffix}", NOISE).read_bytes()
        (folder / f"truncated.{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (folder / "folder.jpg").mkdir()
    save(folder / "icon.png", NOISE, format="ICO")
    save(folder / "postscript.jpg", NOISE, format="EPS")


@pytest.mark.parametrize(
    "name",
    [
        *("truncated.jpg", "truncated.png", "truncated.webp", "truncated.bmp", "truncated.tif", "truncated.ppm"),
        *("truncated.gif", "empty.jpg", "page.jpg", "folder.jpg", "icon.png", "postscript.jpg", "absent.jpg"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(tmp_path, name):
    bad_files(tmp_path)
    with pytest.raises(UnreadableImageError) as caught:
        load_image(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} cannot be read as an image (")
    assert message.endswith("): replace or remove it.")
    assert "\n" not in message
    assert isinstance(caught.value, DataError)


@pytest.mark.parametrize(
    ("size", "decoded"), [((437, 374), (219, 187)), ((299, 400), (299, 400)), ((150, 90), (150, 90))]
)
def test_a_large_jpeg_is_decoded_at_a_reduced_scale(tmp_path, size, decoded):
    smooth = Image.effect_noise((12, 12), 80).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "large.jpg", quality=95)
    smooth.save(tmp_path / "large.png")
    assert load_image(tmp_path / "large.jpg").size == size
    assert load_image(tmp_path / "large.jpg", 150).size == decoded
    assert load_image(tmp_path / "large.png", 150).size == size
    reduced, whole = (
        np.asarray(resize_image(load_image(tmp_path / "large.jpg", n), 150), int) for n in (150, None)
    )
    assert np.abs(reduced - whole).mean() < 2
    assert np.abs(reduced - reduced.mean()).mean() > 10


def test_a_turned_jpeg_is_upright_at_a_reduced_scale(tmp_path):
    image = Image.new("RGB", (400, 320), (255, 255, 255))
    image.paste((200, 0, 0), (0, 0, 400, 100))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    upright = load_image(tmp_path / "turned.jpg", 150)
    assert upright.size == (160, 200)
    right = np.asarray(upright)[100, 130]
    assert right[0] > 150
    assert right[1] < 60
