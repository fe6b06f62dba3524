"""Hostile image files."""

import io
import struct

import numpy as np
import pytest
import torch
from image_files import FORMATS, NOISE, encoded, png, promising
from PIL import Image, ImageFile
from torch.utils.data import DataLoader

from lightning_transfer import Backbone, CatsAndDogsDataModule, ImageFolderDataModule, extract_features
from lightning_transfer.data.decoding import UnreadableImageError, load_image
from lightning_transfer.data.image_list import ImageList


@pytest.fixture
def file(tmp_path):
    """Writes a file whose name says JPEG, whatever is in it."""

    def write(content):
        path = tmp_path / "image.jpg"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [(7072, 7071), (10_000, 10_000), (16_000, 15_000)])
def test_a_file_that_promises_too_many_pixels_is_refused_before_it_is_decoded(file, monkeypatch, form, size):
    # Pillow would be silent at the first size, warn of the second, and refuse the third.
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(UnreadableImageError, match=r"image\.jpg cannot be read as an image \(.*pixels"):
        load_image(file(promising(form, *size)))


def test_max_pixels_alone_is_the_limit(file, image_folder, monkeypatch):
    for form in FORMATS:
        # Pillow would refuse all, and warn of a WebP file, which it refuses from twice its limit on in any case.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500 if form == "WEBP" else 10)
        path = file(encoded(form))
        assert load_image(path, max_pixels=768).size == (32, 24)
        with pytest.raises(UnreadableImageError, match="32 × 24 pixels, more than max_pixels=767"):
            # Though a JPEG would be decoded at an eighth.
            load_image(path, at_least=3, max_pixels=767)
    for module in (ImageFolderDataModule, CatsAndDogsDataModule):
        data = module(str(image_folder), image_size=16, num_workers=0, max_pixels=1919)
        data.setup()
        with pytest.raises(UnreadableImageError, match="48 × 40 pixels, more than max_pixels=1,919"):
            next(iter(data.val_dataloader()))


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_cut_off_anywhere_is_named_or_whole(file, form):
    whole = encoded(form, NOISE[:8, :12])
    expected = load_image(file(whole))
    survived = 0
    for length in {*range(0, len(whole), 5), *range(len(whole) - 50, len(whole))}:
        try:
            assert load_image(file(whole[:length])) == expected
        except UnreadableImageError:
            continue
        survived += 1
    assert survived <= {"JPEG": 2, "PNG": 4}.get(form, 0), "only the mark of the end can be done without"


def test_a_png_with_one_wrong_bit_anywhere_is_named(file):
    # Stored, not compressed: its decoder has nothing to stumble over.
    whole = encoded("PNG", NOISE[:8, :12], compress_level=0)
    expected = load_image(file(whole))
    survived = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        try:
            assert load_image(file(damaged)) == expected
        except UnreadableImageError:
            continue
        survived += 1
    assert survived <= 8, "only the mark of the end can be done without"


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"<!DOCTYPE html><html>Log in to the network</html>",
            b"BM is not enough",
            b"\xff\xd8\xff",
            b"%PDF-1.4",
        ),
        *(encoded(form) for form in ("EPS", "PDF", "GIF", "TIFF", "ICO", "PPM", "JPEG2000", "TGA", "DIB")),
        encoded("TIFF", Image.new("F", (4, 4), 0.5)),
        encoded("TIFF", Image.new("I", (4, 4), 70_000)),
        *(encoded(form, save_all=True, append_images=[Image.fromarray(255 - NOISE)]) for form in ("PNG", "WEBP")),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_still_image_of_the_four_formats_is_refused(file, content):
    with pytest.raises(UnreadableImageError, match=r"image\.jpg cannot be read as an image \("):
        load_image(file(content))


def test_a_camera_s_jpeg_with_a_preview_behind_it_is_the_photograph(file):
    preview = Image.fromarray(NOISE[::4, ::4])
    content = encoded("MPO", save_all=True, append_images=[preview])
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 2
        assert load_image(file(content)) == image.convert("RGB")


def test_transparent_16_bit_gray_becomes_white(file):
    stored = np.array([[0, 1000, 1001, 65535]], dtype=">u2")
    content = png(4, 1, 16, 0, b"\0" + stored.tobytes(), (b"tRNS", struct.pack(">H", 1000)))
    assert np.asarray(load_image(file(content)))[0, :, 0].tolist() == [0, 255, 3, 255]


def test_workers_outlive_bad_images(tmp_path):
    contents = [
        b"",
        b"<html>",
        encoded("PNG")[:400],
        promising("JPEG", 60_000, 60_000),
        encoded("GIF"),
        encoded("BMP"),
    ]
    paths = [tmp_path / f"{number}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    loader = DataLoader(ImageList(paths * 3, 16, "squash"), batch_size=4, num_workers=1)
    assert (
        torch.cat([readable for _, readable in loader]).tolist() == [False, False, False, False, False, True] * 3
    )


def test_store_and_training_see_the_same_pixels(tmp_path, quiet_trainer, passes):
    gray = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        encoded("JPEG", Image.fromarray(NOISE).resize((320, 240)), exif=exif),
        encoded("JPEG", Image.fromarray(NOISE).convert("CMYK")),
        encoded("PNG", gray),
        encoded("PNG", Image.fromarray(NOISE).quantize(16)),
        encoded("PNG", np.concatenate([NOISE, NOISE[..., :1]], axis=-1)),
        encoded("WEBP"),
        encoded("BMP"),
    ]
    for split in ("train", "validation"):
        for label, name in enumerate(("cats", "dogs")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number, content in enumerate(kinds[label::2]):
                (tmp_path / "images" / split / name / f"{number}.jpg").write_bytes(content)
    images = ImageFolderDataModule(
        str(tmp_path / "images"),
        image_size=32,
        batch_size=4,
        num_workers=0,
        augmentation=None,
        duplicates="keep",
    )
    extract_features(quiet_trainer(), Backbone("squeezenet1_1", weights=None), images, root=tmp_path / "features")
    stored = torch.stack(passes).clone()
    loader = images.train_dataloader()
    order = list(loader.sampler)
    trained = torch.cat([batch for batch, _ in loader])
    assert torch.equal(stored[order], trained)
    assert torch.equal(stored[len(order) :], torch.cat([batch for batch, _ in images.val_dataloader()]))
