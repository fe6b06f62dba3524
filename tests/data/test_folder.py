"""Scanning on folders of empty files: the scan looks at names alone."""

import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_transfer.data.folder import find_images, scan_folder
from lightning_transfer.data.index import SPLITS, Samples
from lightning_transfer.data.splitting import with_test
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
    touch(tmp_path, "test/cats/in/1.jpg")
    expected = scan_folder(split_root(tmp_path)).splits
    assert "test/cats/in/1.jpg" in expected["test"].paths
    touch(tmp_path, "README.md", "extra/1.jpg", "train/labels.csv", "train/cats/notes.txt", "train/none")
    os.mkfifo(tmp_path / "train/dogs/pipe.jpg")
    scan = scan_folder(tmp_path)
    assert scan.splits == expected
    assert dict(scan.left_out) == {
        "README.md": "not an image: .md",
        "extra": "a folder beside test and train and validation",
        "train/labels.csv": "not an image: .csv",
        "train/cats/notes.txt": "not an image: .txt",
        "train/none": "not an image: no suffix",
        "train/dogs/pipe.jpg": "not a regular file",
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
        "train": {"cats": 28, "dogs": 6, "yaks": 14},
        "validation": {"cats": 6, "dogs": 1, "yaks": 3},
        "test": {"cats": 6, "dogs": 1, "yaks": 3},
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
        (".hidden/1 1", r"{root} holds 1 images in one folder, .*a table of them .*, or label_from=name"),
        ("test/a/1 test/b/1 val/a/1 val/b/1", "There are {root}/.* and {root}/.*, but no images to train on"),
        ("train/a/1 train/a/2 train/b/1 train/b/2 test/a/1 test/d/1", "d: in test of {root}, but not in train"),
        ("train/a/1 train/b/1 Training/a/1 test/a/1", "{root}/Training and {root}/train both mean train"),
        (
            "one/a/1 one/b/1 two/a/1 two/b/1",
            "holds 2 folders with images, one, two, of which 2 .*{root}/one/a: pass",
        ),
        ("train_images/1 test_images/1", "{root}/test_images and {root}/train_images look like splits, but hold"),
        ("train/1 other/x/.1", "{root}/train looks like a split, but holds images without class folders"),
    ],
)
def test_what_is_wrong_with_a_folder_is_told(tmp_path, paths, message):
    root = tmp_path / "images"
    touch(root, *(path if path == "." else f"{path}.jpg" for path in paths.split()))
    with pytest.raises(DataError, match=message.format(root=re.escape(str(root)))):
        scan_folder(root)


def test_what_there_is_instead_of_images_is_told(tmp_path):
    touch(tmp_path, *(f"a/{number}.dcm" for number in range(3)), "notes.txt")
    with pytest.raises(DataError, match=r"holds no images, but 3 \.dcm files, 1 \.txt files\. Wanted"):
        scan_folder(tmp_path)


def classes_of(scan):
    """Split and class to how many images it has, by the folders in their paths' names."""
    return Counter(
        f"{split}/{scan.class_names[label]}" for split, samples in scan.splits.items() for label in samples.labels
    )


def of(counts):
    """`train/a 2` and so on, as a Counter."""
    words = counts.split()
    return Counter(dict(zip(words[::2], map(int, words[1::2]), strict=True)))


TWENTY = [f"{name}/{number}" for name in "ab" for number in range(20)]
SPLIT_HERE = "train/a 14 train/b 14 validation/a 3 validation/b 3 test/a 3 test/b 3"


def prefixed(prefix, paths):
    return [f"{prefix}/{path}" for path in paths]


@pytest.mark.parametrize(
    ("paths", "expected", "notes"),
    [
        pytest.param(
            [*prefixed("train", TWENTY), "test/a/x", "test/b/x"],
            "train/a 16 train/b 16 validation/a 4 validation/b 4 test/a 1 test/b 1",
            ["There are no validation images: 8 of 40 are held out"],
            id="no validation",
        ),
        pytest.param(
            ["Training/a/1", "Training/b/1", "Testing/a/1", "Testing/b/1", "Validation/a/1", "Validation/b/1"],
            "train/a 1 train/b 1 validation/a 1 validation/b 1 test/a 1 test/b 1",
            ["Testing is taken as test", "Training is taken as train", "Validation is taken as validation"],
            id="other names",
        ),
        pytest.param(
            ["TRAIN-SET/a/1", "TRAIN-SET/b/1", "dev/a/1", "dev/b/1", "holdout/a/1"],
            "train/a 1 train/b 1 validation/a 1 validation/b 1 test/a 1",
            ["TRAIN-SET is taken as train", "dev is taken as validation", "holdout is taken as test"],
            id="synonyms",
        ),
        pytest.param(prefixed("test", TWENTY), SPLIT_HERE, ["test is the only split"], id="test alone"),
        pytest.param(
            ["seg_test/seg_test/a/1", "seg_pred/9", *prefixed("seg_train/seg_train", TWENTY)],
            "train/a 16 train/b 16 validation/a 4 validation/b 4 test/a 1",
            ["seg_test is taken as test", "seg_train is taken as train", "8 of 40 are held out"],
            id="named beside other words, a level deeper",
        ),
        pytest.param(
            prefixed("data/images", TWENTY), SPLIT_HERE, ["The images are those in"], id="two levels down"
        ),
        pytest.param(
            [*prefixed("dataset/train", TWENTY), "dataset/val/a/1", "dataset/val/b/1", "docs/figure"],
            "train/a 20 train/b 20 validation/a 1 validation/b 1",
            ["dataset", "val is taken as validation"],
            id="splits one level down, beside documents",
        ),
        pytest.param(
            [*TWENTY[:39], "b/more/deep/1"], SPLIT_HERE, [], id="images in folders of a class belong to it"
        ),
        pytest.param(
            prefixed("cats", ["tabby/1", "manx/1"]) + prefixed("dogs", ["husky/1", "poodle/1"]),
            "train/cats 1 validation/cats 1 train/dogs 1 validation/dogs 1",
            ["cats belong to it", "dogs belong to it"],
            id="classes of folders",
        ),
        pytest.param(
            [f"{name}/{number}" for name in ("bus", "car", "train") for number in range(3)],
            "train/bus 1 train/car 1 train/train 1 validation/bus 1 validation/car 1 validation/train 1 "
            "test/bus 1 test/car 1 test/train 1",
            ["train is taken as a class, not as a split"],
            id="a class called train",
        ),
        pytest.param(
            [*prefixed("train", TWENTY), "test/1", "test/2"],
            "train/a 14 train/b 14 validation/a 3 validation/b 3 test/a 3 test/b 3",
            ["train is the only split"],
            id="test images without labels",
        ),
    ],
)
def test_layouts_are_understood(tmp_path, paths, expected, notes):
    root = touch(tmp_path / "images", *(f"{path}.jpg" for path in paths))
    scan = scan_folder(root)
    assert classes_of(scan) == of(expected)
    assert len(scan.notes) == len(notes)
    for found, wanted in zip(scan.notes, notes, strict=True):
        assert wanted in found
    for samples in scan.splits.values():
        for path, label in zip(samples.paths, samples.labels, strict=True):
            assert scan.class_names[label] in PurePosixPath(path).parts


def test_a_folder_without_images_beside_the_classes_is_passed_over(tmp_path):
    root = fill(tmp_path, cats=20, dogs=20)
    touch(root, "scripts/run.py", "docs/a/b.txt")
    scan = scan_folder(root)
    assert scan.class_names == ("cats", "dogs")
    assert {path: reason for path, reason in scan.left_out if "/" not in path} == {
        "docs": "a folder without images",
        "scripts": "a folder without images",
    }


def test_labels_may_stand_in_the_images_names(tmp_path):
    names = [f"{name}.{number}.jpg" for name in ("cat", "dog") for number in range(20)]
    scan = scan_folder(touch(tmp_path, *names, "12.jpg"), label_pattern=r"([a-z]+)\.\d+")
    assert classes_of(scan) == of(SPLIT_HERE.replace("/a", "/cat").replace("/b", "/dog"))
    assert scan.left_out == (("12.jpg", "a name that label_pattern does not fit"),)
    touch(tmp_path / "split", *(f"{part}/{name}" for part in ("train", "test") for name in names))
    scan = scan_folder(tmp_path / "split", label_pattern=r"([a-z]+)\.\d+")
    assert {split: len(samples) for split, samples in scan.splits.items()} == {
        "train": 32,
        "validation": 8,
        "test": 40,
    }


def test_a_class_that_a_split_lacks_is_a_warning(tmp_path):
    root = split_root(tmp_path, ["train"], cats=2, dogs=2, yaks=2)
    fill(root / "validation", cats=1, dogs=1, yaks=1)
    fill(root / "test", cats=1)
    assert scan_folder(root).warnings == ("test has no images of dogs, yaks.",)


def test_what_there_is_of_a_small_class_goes_to_train_first(tmp_path):
    scan = scan_folder(fill(tmp_path, cats=20, dogs=1, yaks=2))
    assert classes_of(scan) == of(
        "train/cats 14 validation/cats 3 test/cats 3 train/dogs 1 train/yaks 1 validation/yaks 1"
    )
    assert scan.warnings == ("Too few images for all splits, those there are train: dogs (1), yaks (2).",)


def test_without_a_test_split_validation_is_tested_on(tmp_path):
    scan = scan_folder(split_root(tmp_path, ["train", "validation"], cats=20, dogs=10))
    tested = with_test(scan)
    assert tested.splits["test"] == scan.splits["validation"]
    assert sorted(tested.splits["train"].paths + tested.splits["validation"].paths) == list(
        scan.splits["train"].paths
    )
    assert classes_of(tested)["validation/cats"] == 4
    assert with_test(tested) is tested
    assert tested.notes[-1].startswith("There are no test images: the 30 of validation are tested on, and 6 of 30")


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
    assert dict(left_out) == {
        "link.jpg": "a link that leads out of the folder",
        "folder": "a link to a folder that is there already",
        "a.txt": "not an image: .txt",
        "pipe.jpg": "not a regular file",
    }


def test_a_folder_without_images_is_named(tmp_path):
    touch(tmp_path / "new", "notes.txt")
    with pytest.raises(DataError, match=r"There are no images in .*new \(\.avif, "):
        find_images(tmp_path / "new")
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        find_images(tmp_path / "nowhere")
