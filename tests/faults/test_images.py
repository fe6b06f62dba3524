"""Hostile image files."""

import io
import struct

import numpy as np
import pytest
import torch
from image_files import FORMATS, NOISE, encoded, png, promising, tiff
from PIL import Image, ImageFile
from torch.utils.data import DataLoader

from lightning_transfer import Backbone, CatsAndDogsDataModule, ImageFolderDataModule, extract_features
from lightning_transfer.data.decoding import UnreadableImageError, frames, load_image
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
        # Pillow would refuse all, and warn of a WebP file, which it refuses from twice its limit on in any case;
        # a TIFF from its limit on.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", {"WEBP": 500, "TIFF": 768}.get(form, 10))
        path = file(encoded(form))
        assert load_image(path, max_pixels=768).size == (32, 24)
        limit = 11 if form == "JPEG" else 767  # an eighth of a JPEG has 12
        with pytest.raises(UnreadableImageError, match=f"32 × 24 pixels, more than max_pixels={limit}"):
            load_image(path, max_pixels=limit)
    for module in (ImageFolderDataModule, CatsAndDogsDataModule):
        data = module(str(image_folder), image_size=16, num_workers=0, max_pixels=29)  # an eighth has 30
        data.setup()
        with pytest.raises(UnreadableImageError, match="48 × 40 pixels, more than max_pixels=29"):
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
    assert survived <= {"JPEG": 2, "PNG": 4, "GIF": 2}.get(form, 0), "only the mark of the end can be done without"


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
        b"",
        b"<!DOCTYPE html><html>Log in to the network</html>",
        b"BM is not enough",
        b"P6 is not enough",
        b"GIF89a is not enough",
        b"II*\0 is not enough",
        b"\0\0\0\x20ftypavif is not enough",
        b"\0\0\0\x20ftypisom is a film",
        b"\xff\xd8\xff",
        b"%PDF-1.4",
        *(encoded(form) for form in ("EPS", "PDF", "ICO", "JPEG2000", "TGA", "DIB")),
        *(encoded(form, Image.new("F", (4, 4), 0.5)) for form in ("TIFF", "PPM")),
        encoded("TIFF", Image.new("I", (4, 4), 70_000)),
        encoded("TIFF", compression="jpeg"),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_image_of_the_formats_is_refused(file, content):
    with pytest.raises(UnreadableImageError, match=r"image\.jpg cannot be read as an image \("):
        load_image(file(content))


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        ("12 bits", tiff(4, 2, [12], 1, [bytes(12)])),
        ("zero is white", tiff(4, 2, [16], 0, [bytes(16)])),
        ("plane for each colour", tiff(4, 2, [16] * 3, 2, [bytes(16)] * 3, tag284=[2])),
        ("signed", tiff(4, 2, [8], 1, [bytes(8)], tag339=[2])),
        ("of YCbCr", tiff(4, 2, [8] * 3, 6, [bytes(24)])),
        ("compressed by jpeg", tiff(4, 2, [8], 1, [bytes(8)], compression=7)),
        ("lacks a part", tiff(4, 2, [8], 1, [bytes(4)], tag278=[1])),
        ("lacks a part", tiff(4, 2, [8] * 3, 2, [bytes(8)] * 2, tag284=[2])),
        ("tiles are larger", tiff(4, 2, [8], 1, [bytes(8)], tag322=[30_000], tag323=[30_000], tag324=[8])),
    ],
)
def test_a_tiff_that_pillow_would_read_wrong_is_refused(file, reason, content):
    with pytest.raises(UnreadableImageError, match=f"a TIFF .*{reason}"):
        load_image(file(content))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_of_several_frames_or_pages_the_first_is_read(file, form):
    Image.init()
    if form not in Image.SAVE:
        pytest.skip("this Pillow reads no AVIF")
    others = [Image.fromarray(255 - NOISE).convert("L"), Image.fromarray(NOISE[::-1]).convert("L")]
    first = Image.fromarray(NOISE).convert("L")
    path = file(encoded(form, first, save_all=True, append_images=others, **LOSSLESS.get(form, {})))
    assert frames(path) == 3
    np.testing.assert_allclose(np.asarray(load_image(path), int)[..., 0], first, atol=4 if form == "AVIF" else 0)
    assert frames(file(encoded(form, first))) == 1


LOSSLESS = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}


def test_a_file_that_cannot_be_read_has_one_frame(file, tmp_path):
    assert frames(file(b"")) == frames(file(b"GIF89a")) == frames(tmp_path) == frames(tmp_path / "absent") == 1


def test_pages_without_end_are_not_counted_for_ever(file):
    whole = tiff(4, 2, [8], 1, [bytes(8)])  # its last four bytes lead to the next page
    chain = b"".join(struct.pack("<HI", 0, len(whole) + 6 * (page + 1)) for page in range(20_000))
    assert frames(file(whole[:-4] + struct.pack("<I", len(whole)) + chain)) == 10_000
    circle = struct.pack("<HI", 0, len(whole))
    assert frames(file(whole[:-4] + struct.pack("<I", len(whole)) + circle)) == 2


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["rows", "progressive"])
def test_a_jpeg_above_the_limit_is_reduced_unless_all_of_it_is_kept(file, monkeypatch, options):
    path = file(encoded("JPEG", Image.effect_noise((400, 300), 80), **options))
    if not options:
        assert [load_image(path, max_pixels=n).size for n in (120_000, 119_999, 29_999, 7_499)] == [
            *((400, 300), (200, 150), (100, 75), (50, 38)),
        ]
        assert load_image(path, at_least=60, max_pixels=29_999).size == (100, 75)
        assert load_image(path, at_least=300, max_pixels=7_499).size == (50, 38)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(UnreadableImageError, match="400 × 300 pixels, more than max_pixels="):
        load_image(path, max_pixels=119_999 if options else 1_899)


def test_a_jpeg_in_several_scans_is_counted_whole(file):
    # The first scan has one colour of three; libjpeg then keeps all coefficients, whatever the kind.
    content = bytearray(encoded("JPEG", Image.effect_noise((400, 300), 80).convert("RGB"), quality=50))
    start = content.index(b"\xff\xda")
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    path = file(content[:start] + scan + content[start + 14 :])
    with pytest.raises(UnreadableImageError, match="400 × 300 pixels, more than"):
        load_image(path, max_pixels=119_999)


def test_a_camera_s_jpeg_with_a_preview_behind_it_is_the_photograph(file):
    preview = Image.fromarray(NOISE[::4, ::4])
    content = encoded("MPO", save_all=True, append_images=[preview])
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 2
        assert np.array_equal(load_image(file(content)), image.convert("RGB"))
    assert frames(file(content)) == 1


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
        encoded("ICO"),
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
    validated = images.val_dataloader()
    assert torch.equal(stored[len(order) :][validated.dataset.indices], torch.cat([b for b, _ in validated]))
