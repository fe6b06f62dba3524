"""Scanning on folders of empty files: the scan looks at names alone."""

import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_transfer.data.entries import SUFFIX_LIST
from lightning_transfer.data.folder import find_images, scan_folder
from lightning_transfer.data.index import SPLITS, Samples
from lightning_transfer.errors import DataError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def fill(root, **counts):
    """`root/<class>/<number>.jpg`, so many a class."""
    return touch(root, *(f"{name}/{i:03}.jpg" for name, count in counts.items() for i in range(count)))


def split_root(root, splits=SPLITS, **counts):
    for split in splits:
        fill(root / split, **(counts or {"cats": 2, "dogs": 1}))
    return root


def counted(scan):
    """Split to the number of images in each class folder."""
    return {
        split: Counter(PurePosixPath(path).parent.name for path in samples.paths)
        for split, samples in scan.splits.items()
    }


def test_split_layout_gives_sorted_paths_and_labels(tmp_path):
    scan = scan_folder(split_root(tmp_path))
    assert (scan.class_names, tuple(scan.splits)) == (("cats", "dogs"), SPLITS)
    assert scan.splits["test"].paths == ("test/cats/000.jpg", "test/cats/001.jpg", "test/dogs/000.jpg")
    assert scan.splits["test"].labels == (0, 0, 1)
    assert scan.left_out == ()


def test_the_test_split_may_be_missing(tmp_path):
    assert tuple(scan_folder(split_root(tmp_path, ["validation", "train"])).splits) == ("train", "validation")


def test_a_label_means_the_same_class_in_every_split(tmp_path):
    # Written in another order in each split, so that the order on disk cannot help.
    for split, order in zip(SPLITS, ("zab", "baz", "abz"), strict=True):
        touch(tmp_path / split, *(f"{name}/1.png" for name in order))
    scan = scan_folder(str(tmp_path))
    assert scan.class_names == ("a", "b", "z")
    for samples in scan.splits.values():
        assert samples.labels == (0, 1, 2)
        assert [PurePosixPath(path).parent.name for path in samples.paths] == ["a", "b", "z"]


def test_suffixes_of_images_in_any_case(tmp_path):
    names = ["a.JPG", "b.jpeg", "c.png", "d.webp", "e.Bmp"]
    touch(split_root(tmp_path, ants=1, dogs=1), *(f"train/ants/{name}" for name in names))
    assert [p.rpartition("/")[2] for p in scan_folder(tmp_path).splits["train"].paths[1:6]] == names


def test_hidden_entries_and_macosx_are_ignored(tmp_path):
    expected = scan_folder(split_root(tmp_path))
    touch(tmp_path, ".git/x/1.jpg", "__MACOSX/train/cats/1.jpg", "train/.hidden/1.jpg", "train/__MACOSX/1.jpg")
    touch(tmp_path, "train/cats/._000.jpg", "validation/dogs/.DS_Store")
    assert scan_folder(tmp_path) == expected


def test_what_is_no_image_is_listed_with_its_reason(tmp_path):
    expected = scan_folder(split_root(tmp_path)).splits
    touch(tmp_path, "README.md", "extra/1.jpg", "train/labels.csv", "train/cats/notes.txt", "test/cats/in/1.jpg")
    os.mkfifo(tmp_path / "train/dogs/pipe.jpg")
    scan = scan_folder(tmp_path)
    assert scan.splits == expected
    assert dict(scan.left_out) == {
        "README.md": "not one of train, validation, test",
        "extra": "not one of train, validation, test",
        "train/labels.csv": "a file beside the class folders",
        "train/cats/notes.txt": f"not an image ({SUFFIX_LIST})",
        "train/dogs/pipe.jpg": "not a regular file",
        "test/cats/in": "not a regular file",
    }


@pytest.mark.parametrize("below", ["train/", ""])
def test_links_that_lead_out_or_nowhere_are_left_out_and_those_inside_followed(tmp_path, below):
    outside = fill(tmp_path / "outside", secret=1)
    root = tmp_path / "root"
    for folder in ("train", "validation") if below else ("",):
        fill(root / folder, cats=4, dogs=4)
        (root / folder / "inside").symlink_to(root / folder / "dogs")
    (root / "out").symlink_to(outside)
    (root / below / "cats/out.jpg").symlink_to(outside / "secret/000.jpg")
    (root / below / "cats/circle.jpg").symlink_to("circle.jpg")
    (root / below / "cats/broken.jpg").symlink_to("absent.jpg")
    scan = scan_folder(root)
    assert scan.class_names == ("cats", "dogs", "inside")
    assert sum(count["inside"] for count in counted(scan).values()) == (8 if below else 4)
    reasons = {f"{below}cats/out.jpg": "leads out of the folder", "out": "leads out of the folder"}
    reasons |= {f"{below}cats/{name}.jpg": "leads nowhere" for name in ("broken", "circle")}
    assert sorted(scan.left_out) == sorted((path, f"a link that {reason}") for path, reason in reasons.items())


def test_unsplit_folder_is_split_class_by_class(tmp_path):
    scan = scan_folder(fill(tmp_path, cats=40, dogs=8, yaks=20))
    assert counted(scan) == {
        "train": {"cats": 20, "dogs": 4, "yaks": 10},
        "validation": {"cats": 10, "dogs": 2, "yaks": 5},
        "test": {"cats": 10, "dogs": 2, "yaks": 5},
    }
    for samples in scan.splits.values():
        assert [scan.class_names[label] for label in samples.labels] == [p.split("/")[0] for p in samples.paths]


def test_the_split_depends_on_the_seed_alone(tmp_path):
    first, again = (scan_folder(fill(tmp_path / name, cats=30, dogs=30)).splits for name in "ab")
    assert first == again == scan_folder(tmp_path / "a", split_seed=0).splits
    assert first["train"].paths != scan_folder(tmp_path / "a", split_seed=1).splits["train"].paths


def test_a_class_added_later_leaves_the_others_where_they_were(tmp_path):
    before = scan_folder(fill(tmp_path, cats=16, dogs=16)).splits
    after = scan_folder(fill(tmp_path, ants=16, cows=16)).splits
    for split in SPLITS:
        kept = tuple(path for path in after[split].paths if path.startswith(("cats", "dogs")))
        assert kept == before[split].paths


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(13, 60), min_size=2, max_size=4),
    weights=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 2**40),
)
def test_no_image_is_lost_or_in_two_splits_and_each_class_has_its_shares(counts, weights, seed):
    shares = [weight / sum(weights) for weight in weights]
    with TemporaryDirectory() as root:
        fill(Path(root), **{f"class{i}": count for i, count in enumerate(counts)})
        scan = scan_folder(root, shares, seed)
    found = [path for samples in scan.splits.values() for path in samples.paths]
    assert sorted(found) == [f"class{i}/{n:03}.jpg" for i, count in enumerate(counts) for n in range(count)]
    for split, share in zip(SPLITS, shares, strict=True):
        for i, count in enumerate(counts):
            assert abs(counted(scan)[split][f"class{i}"] - share * count) <= 1


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("", r"{root} does not exist: wanted {root}/train\|validation\|test/<class>/\*\.jpg, or {root}/<class>"),
        (".", r"{root} is a file, not a folder: wanted {root}/train"),
        ("a/1", "{root} holds one class only, 'a'"),
        (".hidden/1 1", r"{root} holds no class folders: wanted {root}/<class>/\*\.jpg"),
        ("a/1 b/.1", r"class folder {root}/b holds no images \(.*\.jpg"),
        ("a/1 a/2 a/3 a/4 b/1 b/2 b/3", "{root}/b holds 3 images, too few to give validation its share of 25%"),
        ("train/a/1 train/b/1", r"{root} has a folder train but none called validation\."),
        ("train/a/1 val/a/1", r"none called validation; rename {root}/val to {root}/validation\?"),
        ("test/a/1 val/a/1", "{root} has no folder train, but has test, val: wanted {root}/train.* Rename"),
        ("train/a/1 train/b/1 validation/b/1", "{root}/validation lacks a"),
        ("train/a/1 train/b/.1 validation/b/1", "{root}/train/b holds no images"),
        (
            "train/a/1 train/b/1 train/c/1 validation/a/1 validation/b/1 test/a/1 test/b/1 test/c/1 test/d/1",
            "different classes: {root}/train lacks d; {root}/validation lacks c, d. Each needs every class",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(tmp_path, paths, message):
    root = tmp_path / "images"
    touch(root, *(path if path == "." else f"{path}.jpg" for path in paths.split()))
    with pytest.raises(DataError, match=message.format(root=re.escape(str(root)))):
        scan_folder(root)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.25, 0.2), (1.2, -0.1, -0.1), (), (0.4, 0.2, 0.2, 0.2)])
def test_shares_that_are_no_shares_are_refused(tmp_path, shares):
    with pytest.raises(DataError, match=re.escape(f"split={shares}: wanted three shares")):
        scan_folder(fill(tmp_path, cats=20, dogs=20), shares)


@pytest.mark.parametrize(
    ("count", "kept"),
    [(0, ""), (1, "a1"), (2, "a1 b1"), (4, "a1 a2 b1 c1"), (5, "a1 a2 b1 c1 c2"), (99, "a1 a2 a3 b1 c1 c2")],
)
def test_the_first_images_are_taken_class_by_class_in_turn(count, kept):
    samples = Samples(("a1", "c1", "a2", "b1", "c2", "a3"), (0, 2, 0, 1, 2, 0))
    first = samples.first(count)
    assert sorted(first.paths) == kept.split()
    assert list(first.paths) == [path for path in samples.paths if path in first.paths]
    assert ["abc"[label] for label in first.labels] == [path[0] for path in first.paths]


def test_images_are_found_at_any_depth_in_order(tmp_path):
    root = touch(tmp_path / "new", "b.jpg", "B/z.PNG", "B/a/y.webp", "a.txt", ".hidden/x.jpg", "__MACOSX/x.jpg")
    touch(tmp_path / "elsewhere", "x.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "elsewhere" / "x.jpg")
    (root / "inside.jpg").symlink_to(root / "b.jpg")
    (root / "folder").symlink_to(root / "B")
    os.mkfifo(root / "pipe.jpg")
    image_folder, left_out = find_images(root)
    assert image_folder == ("B/a/y.webp", "B/z.PNG", "b.jpg", "inside.jpg")
    assert left_out == (("link.jpg", "a link that leads out of the folder"),)


def test_a_folder_without_images_is_named(tmp_path):
    touch(tmp_path / "new", "notes.txt")
    with pytest.raises(DataError, match=r"There are no images in .*new \(\.avif, "):
        find_images(tmp_path / "new")
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        find_images(tmp_path / "nowhere")
