"""Folders of images that would mislead: what is bad in them, there twice, or called by two names."""

import csv
import json
import os
import signal
import socket
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from conftest import COLOURS, draw_folder, draw_image
from lightning_transfer import CatsAndDogsDataModule, ImageFolderDataModule
from lightning_transfer.data import entries
from lightning_transfer.data.decoding import UnreadableImageError, load_image
from lightning_transfer.data.folder import find_images, scan_folder
from lightning_transfer.errors import DataError, OutputError


@pytest.fixture
def at_once():
    """Ends a test that waits for a pipe to be written to."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waited"))
    signal.alarm(20)
    yield
    signal.alarm(0)


def test_what_is_no_regular_file_is_never_waited_for(tmp_path, at_once):
    root = draw_folder(tmp_path / "images", counts=(2, 2))
    expected = scan_folder(root)
    os.mkfifo(root / "train/cats/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "train/cats/socket.jpg"))
    data = ImageFolderDataModule(str(root), image_size=16, num_workers=0, on_bad_image="skip")
    data.setup()
    assert data.index.splits == expected.splits
    assert [path for path, _ in data.index.left_out] == ["train/cats/pipe.jpg", "train/cats/socket.jpg"]
    assert set(find_images(root)[0]) == {path for split in expected.splits.values() for path in split.paths}
    for name in ("pipe.jpg", "socket.jpg"):
        with pytest.raises(UnreadableImageError, match=f"{name} cannot be read.*not a regular file"):
            load_image(root / "train/cats" / name)


def test_skip_reports_the_bad_ones_and_stops_above_the_cap(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = draw_folder(tmp_path / "images", counts=(8, 2))  # 20
    bad = [root / "train/cats/cats.1.jpg", root / "train/dogs/dogs.0.jpg", root / "validation/dogs/dogs.1.jpg"]

    def make(**arguments):
        data = ImageFolderDataModule(str(root), image_size=16, num_workers=1, on_bad_image="skip", **arguments)
        data.setup()
        return data

    make()
    assert not (tmp_path / "left_out.csv").exists(), "nothing to report"
    for path in bad[:2]:
        path.write_bytes(b"<html>")
    data = make(left_out_report="told.csv", max_bad_images=0.1)
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 14
    bad[2].write_bytes(path.read_bytes()[:300])
    with pytest.raises(
        DataError, match=r"3 of 20 images in .*more than max_bad_images=0\.1 .*cats\.1\.jpg cannot be"
    ):
        make()
    assert len(make(max_bad_images=0.15).index.left_out) == 3
    for name, count in (("told.csv", 2), ("left_out.csv", 3)):
        with (tmp_path / name).open(newline="") as report:
            rows = list(csv.DictReader(report))
        assert [row["path"] for row in rows] == list(map(str, bad[:count]))
        assert all("none of JPEG, PNG, WebP, BMP, TIFF" in row["reason"] for row in rows)
    with pytest.raises(OutputError, match=r"nowhere/x\.csv cannot be written .* another left_out_report"):
        make(left_out_report="nowhere/x.csv", max_bad_images=0.15)
    with pytest.raises(DataError, match=r"max_bad_images=1\.5: wanted a number from 0 to 1"):
        make(max_bad_images=1.5)


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def test_equal_files_in_two_splits_or_classes_are_listed_and_refused(tmp_path):
    root = draw_folder(tmp_path / "images", counts=(8, 2, 2))

    def setup(duplicates="error", **arguments):
        ImageFolderDataModule(
            str(root), image_size=16, num_workers=0, duplicates=duplicates, left_out_report=None, **arguments
        ).setup()

    copy(root / "train/cats/cats.1.jpg", root / "train/cats/again.jpg")  # which does no harm
    # What cannot be read is told where it is decoded.
    for path in ("train/cats/page.jpg", "test/dogs/page.jpg"):
        (root / path).write_text("<html>Log in")
    # Of one size; the end the same, and what comes before not.
    for path, colour in (("train/cats/long.jpg", 0), ("test/cats/long.jpg", 9)):
        pixels = np.zeros((99, 99, 3), np.uint8)
        pixels[-1] = colour  # a bitmap begins with its last row
        Image.fromarray(pixels).save(root / path, "BMP")
    setup()

    copy(root / "train/cats/cats.1.jpg", root / "test/cats/other.jpg")
    with pytest.raises(DataError, match=r": test/cats/other\.jpg = train/cats/again\.jpg\. .*duplicates=keep"):
        setup()
    (root / "test/cats/other.jpg").unlink()
    copy(root / "train/cats/cats.1.jpg", root / "train/dogs/other.jpg")
    with pytest.raises(
        DataError, match=r"in two splits or two .*: train/cats/again\.jpg = train/dogs/other\.jpg\."
    ):
        setup()

    for number in range(8):
        copy(root / f"train/dogs/dogs.{number}.jpg", root / f"validation/dogs/copy.{number}.jpg")
    with pytest.raises(DataError, match=r"; and 4 more\. Keep one of each") as caught:
        setup()
    assert str(caught.value).count(" = ") == 5
    setup(duplicates="keep")
    setup(max_images=1)  # what is not used does not matter
    CatsAndDogsDataModule(str(root), duplicates="keep", num_workers=0).setup()


@pytest.mark.real
def test_the_books_photographs_are_there_once_each(real):
    CatsAndDogsDataModule(str(real / "data/cats_and_dogs_small"), num_workers=0).setup()


def fill(root, *folders):
    for number, folder in enumerate(folders):
        for i in range(4):
            draw_image(root / folder / f"{i}.png", COLOURS["cats"], 10 * number + i, (4, 4))
    return root


COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "Café"), unicodedata.normalize("NFD", "Café")


def test_a_class_is_the_same_in_both_encodings_of_its_name(tmp_path):
    root = fill(tmp_path, f"train/{COMPOSED}", "train/a", f"validation/{DECOMPOSED}", "validation/a")
    scan = scan_folder(root)
    assert scan.class_names == (COMPOSED, "a")
    assert [scan.splits["validation"].labels[i] for i in (0, -1)] == [0, 1]
    for samples in scan.splits.values():
        assert all((root / path).is_file() for path in samples.paths)
    fill(root, f"train/{DECOMPOSED}")
    with pytest.raises(DataError, match=r"Two class folders in .*train are called 'Café', in two encodings"):
        scan_folder(root)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("Cats cats dogs", "the class folders Cats and cats differ only in upper and lower case"),
        ("train/a train/B validation/a validation/b", "class folders train/B and validation/b differ"),
        ("train/a train/É train/é validation/a", "class folders train/É and train/é differ"),
    ],
)
def test_names_that_differ_in_case_alone_are_told(tmp_path, folders, message):
    with pytest.raises(DataError, match=message):
        scan_folder(fill(tmp_path, *folders.split()))


def test_names_that_are_not_utf8_are_left_out_and_told(tmp_path):
    root = fill(tmp_path, "cats", "dogs")
    expected = scan_folder(root)
    (root / os.fsdecode(b"b\xff")).mkdir()
    (root / "cats" / os.fsdecode(b"\xe9.png")).touch()
    scan = scan_folder(root)
    assert scan.splits == expected.splits
    assert dict(scan.left_out) == dict.fromkeys(["b\\xff", "cats/\\xe9.png"], "a name that is not UTF-8")
    json.dumps(scan.left_out).encode()
    image_folder, left_out = find_images(root)
    assert len(image_folder) == 8
    assert set(left_out) == set(scan.left_out)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root = fill(tmp_path, "cats", "dogs")
    real = os.scandir

    def scandir(folder):
        if folder == root / "dogs":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(entries.os, "scandir", scandir)
    for look in (scan_folder, find_images):
        with pytest.raises(DataError, match=r"The folder .*dogs cannot be read \(.*Permission denied"):
            look(root)


def test_images_are_found_below_more_folders_than_python_has_frames(tmp_path):
    limit = sys.getrecursionlimit()
    folder = tmp_path.joinpath(*["a"] * 300)
    folder.mkdir(parents=True)
    (folder / "deep.jpg").touch()
    sys.setrecursionlimit(250)
    try:
        assert len(find_images(tmp_path)[0]) == 1
    finally:
        sys.setrecursionlimit(limit)
