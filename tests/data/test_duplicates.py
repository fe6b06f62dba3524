"""Copies: which side of a split they go to, and which are left out."""

import csv
import shutil
from collections import Counter

import pytest

from conftest import COLOURS, draw_image
from lightning_transfer import ImageFolderDataModule
from lightning_transfer.errors import DataError


def drawn(root, *paths):
    for seed, path in enumerate(paths):
        draw_image(root / path, COLOURS["cats"], seed, (16, 16))
    return root


def copied(root, *pairs):
    for source, target in pairs:
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / source, root / target)


def make(root, **arguments):
    data = ImageFolderDataModule(str(root), image_size=16, num_workers=0, **arguments)
    data.setup()
    return data


def splits_of(data):
    return {path: split for split in data.splits for path in data.index.splits[split].paths}


def test_copies_of_one_class_go_to_the_same_side_of_a_split_made_here(tmp_path):
    root = drawn(tmp_path / "images", *(f"{name}/{n}.png" for name in ("a", "b") for n in range(20)))
    copied(root, *((f"a/{n}.png", f"a/copy{n}.png") for n in range(20)))
    data = make(root)
    where = splits_of(data)
    assert len(where) == 60
    assert all(where[f"a/{n}.png"] == where[f"a/copy{n}.png"] for n in range(20))
    assert set(where.values()) == {"train", "validation", "test"}
    assert data.index.left_out == ()
    with pytest.raises(DataError, match="duplicates=keep"):
        make(root, duplicates="error")
    assert len({where[path] == split for path, split in splits_of(make(root, duplicates="keep")).items()}) == 2


def test_across_given_splits_the_copy_in_train_is_left_out_then_that_in_validation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [f"{split}/{name}/{n}.png" for split in ("train", "val", "test") for name in "ab" for n in range(3)]
    root = drawn(tmp_path / "images", *given)
    copied(
        root,
        ("test/a/0.png", "train/a/as_test.png"),
        ("test/a/0.png", "val/a/as_test.png"),
        ("val/b/1.png", "train/b/as_validation.png"),
        ("train/a/1.png", "train/a/again.png"),
    )
    data = make(root)
    left = {
        "train/a/as_test.png": "a copy of an image in test",
        "val/a/as_test.png": "a copy of an image in test",
        "train/b/as_validation.png": "a copy of an image in validation",
    }
    assert dict(data.index.left_out) == left
    assert set(splits_of(data)) == {*given, "train/a/again.png"}
    with (tmp_path / "left_out.csv").open(newline="") as report:
        assert {row["path"]: row["reason"] for row in csv.DictReader(report)} == {
            str(root / path): reason for path, reason in left.items()
        }


@pytest.mark.parametrize("prefix", [("", ""), ("train/", "train/"), ("train/", "test/")])
def test_copies_under_two_labels_are_all_left_out(tmp_path, prefix):
    paths = [f"{name}/{n}.png" for name in "ab" for n in range(20)]
    if prefix[0]:
        paths = [f"{split}/{path}" for split in ("train", "validation", "test") for path in paths]
    root = drawn(tmp_path / "images", *paths)
    copied(root, (f"{prefix[0]}a/0.png", f"{prefix[1]}b/wrong.png"))
    data = make(root, left_out_report=None)
    reason = "equal files under different labels"
    assert dict(data.index.left_out) == {f"{prefix[0]}a/0.png": reason, f"{prefix[1]}b/wrong.png": reason}
    assert set(splits_of(data)) == {*paths} - {f"{prefix[0]}a/0.png"}


def test_validation_held_out_of_train_shares_no_copy_with_it_or_with_test(tmp_path):
    given = [f"{split}/{name}/{n}.png" for split in ("train", "test") for name in "ab" for n in range(10)]
    root = drawn(tmp_path / "images", *given)
    copied(root, *((f"train/a/{n}.png", f"train/a/copy{n}.png") for n in range(10)))
    copied(root, ("test/b/0.png", "train/b/as_test.png"))
    data = make(root, left_out_report=None)
    where = splits_of(data)
    assert all(where[f"train/a/{n}.png"] == where[f"train/a/copy{n}.png"] for n in range(10))
    assert dict(data.index.left_out) == {"train/b/as_test.png": "a copy of an image in test"}
    assert Counter(where.values())["test"] == 20


def test_a_split_of_copies_alone_is_refused(tmp_path):
    root = drawn(tmp_path / "images", *(f"{split}/{n}/0.png" for split in ("train", "test") for n in "ab"))
    copied(root, ("test/a/0.png", "validation/a/0.png"), ("test/b/0.png", "validation/b/0.png"))
    with pytest.raises(
        DataError, match=r"All images of validation in .* are copies of others: pass duplicates=keep"
    ):
        make(root)
    make(root, duplicates="keep")


def test_a_test_split_that_is_made_leaves_copies_on_one_side(tmp_path):
    given = [f"{split}/{name}/{n}.png" for split in ("train", "validation") for name in "ab" for n in range(10)]
    root = drawn(tmp_path / "images", *given)
    copied(root, *((f"train/a/{n}.png", f"train/a/copy{n}.png") for n in range(10)))
    where = splits_of(make(root, left_out_report=None).with_test_split())
    assert set(where.values()) == {"train", "validation", "test"}
    assert all(where[f"train/a/{n}.png"] == where[f"train/a/copy{n}.png"] for n in range(10))
    assert all(split == "test" for path, split in where.items() if path.startswith("validation"))
