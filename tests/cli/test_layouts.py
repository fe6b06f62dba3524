"""People's folders through the command line: the right images in the right splits, and what is said."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from conftest import COLOURS, draw_image
from lightning_transfer import FeatureStore

MODEL = ["--model=FeatureClassifier", "--model.backbone=squeezenet1_1", "--model.weights=null", "--model.pool=avg"]
TRAINER = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--features.root=features"]


def drawn(*paths):
    for seed, path in enumerate(paths):
        draw_image(Path("mine") / path, COLOURS["cats"], seed, (16, 16))


def numbered(folder, count, suffix="jpg"):
    return [f"{folder}/{number}.{suffix}" for number in range(count)]


def splits_and_other_names():
    drawn(*numbered("Training/a", 3), *numbered("Training/b", 3), *numbered("valid/a", 1), *numbered("valid/b", 1))
    drawn_before = ["Testing/a/x.jpg", "Testing/b/y.jpg"]
    for seed, path in enumerate(drawn_before, start=100):
        draw_image(Path("mine") / path, COLOURS["dogs"], seed, (16, 16))
    return {"train": 6, "validation": 2, "test": 2}, "Training is taken as train", 0


def without_validation():
    drawn(
        *(p for split, n in (("train", 10), ("test", 2)) for name in "ab" for p in numbered(f"{split}/{name}", n))
    )
    return {"train": 16, "validation": 4, "test": 4}, "no validation images: 4 of 20 are held out", 0


def classes_beside_other_folders():
    drawn(*numbered("a", 20), *numbered("b", 20))
    for path in ("scripts/train.py", "docs/a/index.md", "README.md"):
        Path("mine", path).parent.mkdir(parents=True, exist_ok=True)
        Path("mine", path).write_text("text")
    return {"train": 28, "validation": 6, "test": 6}, "2 left out: a folder without images (docs, …)", 3


def a_level_deeper():
    drawn(*(path for name in "ab" for path in numbered(f"dataset/train/{name}", 10)))
    drawn(*(path for name in "ab" for path in numbered(f"dataset/val/{name}", 2)))
    for number in range(2):  # otherwise they are copies
        for name in "ab":
            draw_image(
                Path("mine", f"dataset/val/{name}/{number}.jpg"),
                COLOURS["dogs"],
                50 + number,
                (16, 16 + ord(name) % 2),
            )
    return {"train": 20, "validation": 4}, "dataset", 0


def copies():
    drawn(
        *(path for split in ("train", "val", "test") for name in "ab" for path in numbered(f"{split}/{name}", 4))
    )
    shutil.copy("mine/test/a/0.jpg", "mine/train/a/copy.jpg")
    shutil.copy("mine/train/a/1.jpg", "mine/train/b/wrong.jpg")
    return {"train": 7, "validation": 8, "test": 8}, "1 left out: a copy of an image in test (train/a/copy.jpg)", 3


def other_formats():
    for name in "ab":
        Path("mine", name).mkdir(parents=True)
    for number in range(20):
        for name, suffix in (("a", "tif"), ("b", "ppm")):
            Image.effect_noise((16, 16), 50 + number).convert("RGB").save(f"mine/{name}/{number}.{suffix}")
    return {"train": 28, "validation": 6, "test": 6}, "", 0


def one_split_alone():
    drawn(*numbered("test/a", 20), *numbered("test/b", 20))
    return {"train": 28, "validation": 6, "test": 6}, "test is the only split", 0


def folders_within_classes():
    drawn(*numbered("a/more/of/a", 20), *numbered("b", 20))
    return {"train": 28, "validation": 6, "test": 6}, "a belong to it", 0


def unlabelled_test_images():
    drawn(*numbered("train/a", 20), *numbered("train/b", 20), *numbered("test", 3))
    return {"train": 28, "validation": 6, "test": 6}, "1 left out: images without class folders (test)", 1


LAYOUTS = [
    splits_and_other_names,
    without_validation,
    classes_beside_other_folders,
    a_level_deeper,
    copies,
    other_formats,
    one_split_alone,
    folders_within_classes,
    unlabelled_test_images,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_a_folder_is_used_as_it_is(layout, command, capfd):
    counts, said, left_out = layout()
    data = ["--data=ImageFolderDataModule", "--data.root=mine", "--data.image_size=32", "--data.num_workers=0"]
    assert command("extract", *MODEL, *data, *TRAINER) == 0
    out, err = capfd.readouterr()
    assert said in out + err
    (folder,) = Path("features").glob("[!.]*")
    store = FeatureStore(folder)
    splits = store.manifest.splits
    assert {split: len(samples.paths) for split, samples in splits.items()} == counts
    for split, samples in splits.items():
        assert all(
            Path(path).parent.name == "ab"[label]
            for path, label in zip(samples.paths, samples.labels, strict=True)
        )
        assert len(Counter(samples.labels)) == 2, split
    paths = [path for samples in splits.values() for path in samples.paths]
    assert len(set(paths)) == len(paths)
    rows = []
    if Path("left_out.csv").exists():
        with Path("left_out.csv").open(newline="") as report:
            rows = list(csv.DictReader(report))
    assert len(rows) == left_out


def test_labels_are_taken_from_names_where_asked(command, capfd):
    drawn(*(f"{name}.{number}.jpg" for name in ("cat", "dog") for number in range(20)))
    data = ["--data=ImageFolderDataModule", "--data.root=mine", "--data.image_size=32", "--data.num_workers=0"]
    assert command("extract", *MODEL, *data, *TRAINER) == 1
    assert "label_from=name" in " ".join(capfd.readouterr().err.split())
    assert command("extract", *MODEL, *data, *TRAINER, "--data.label_from=name") == 0
    (folder,) = Path("features").glob("[!.]*")
    for samples in FeatureStore(folder).manifest.splits.values():
        names = [("cat", "dog")[label] for label in samples.labels]
        assert names == [path.partition(".")[0] for path in samples.paths]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train_images/1.jpg", "test_images/2.jpg"], "look like splits, but hold images without class folders"),
        (["1.jpg", "2.jpg"], "holds 2 images in one folder, which says nothing of their labels"),
        (["a/1.jpg"], "holds one class only, 'a'"),
        (["one/a/1.jpg", "one/b/1.jpg", "two/a/1.jpg", "two/b/1.jpg"], "pass the one to use"),
        (["train/a/1.jpg", "train/b/2.jpg", "Training/a/3.jpg"], "both mean train"),
    ],
)
def test_what_cannot_be_decided_is_one_paragraph(paths, message, command, capfd):
    drawn(*paths)
    data = ["--data=ImageFolderDataModule", "--data.root=mine", "--data.image_size=32", "--data.num_workers=0"]
    assert command("extract", *MODEL, *data, *TRAINER) == 1
    error = " ".join(capfd.readouterr().err.split())
    assert message in error
    assert "Wanted mine/" in error or "wanted mine/" in error or "both mean" in error
