"""Arguments of data modules and stores: paths of either kind, and one paragraph for what is of the wrong type."""

from pathlib import Path

import numpy as np
import pytest

from lightning_transfer import (
    Augmentation,
    Backbone,
    CatsAndDogsDataModule,
    FeatureDataModule,
    FeatureStore,
    ImageDataModule,
    ImageFolderDataModule,
    ImageIndex,
    ImageTableDataModule,
    SketchCreaturesDataModule,
    SketchPetsDataModule,
    extract_features,
)
from lightning_transfer.data.index import Samples
from lightning_transfer.errors import DataError, StoreError

WHOLE = "wanted a whole number, "
OF_ALL = {
    "image_size": [((64, 64), WHOLE + "1 or more"), ("64", WHOLE), (64.0, WHOLE), (0, WHOLE), (True, WHOLE)],
    "batch_size": [(2.5, WHOLE + "1 or more"), ("20", WHOLE), (0, WHOLE)],
    "seed": [(-1, WHOLE + "0 or more"), ("0", WHOLE), (None, WHOLE)],
    "max_images": [(-1, WHOLE + "1 or more"), (1.5, WHOLE), ("all", WHOLE)],
    "max_bad_images": [
        ("x", "wanted a number from 0 to 1"),
        (1.1, "wanted a number from 0 to 1"),
        (None, "wanted a"),
    ],
    "left_out_report": [(3, "wanted a path"), (True, "wanted a path")],
    "max_pixels": [("1e6", WHOLE), (0, WHOLE)],
    "num_workers": [(-1, WHOLE + "0 or more"), (0.5, WHOLE), ("auto", WHOLE)],
    "resize": [(["crop"], "wanted one of squash, crop"), (None, "wanted one of")],
    "on_bad_image": [(True, "wanted one of error, skip")],
    "duplicates": [(None, "wanted one of drop, error, keep")],
    "bit_depth": [("12", "wanted one of auto, 8"), (12.0, "wanted one of auto, 8")],
    "use_cache": [("yes", "wanted one of True, False"), (None, "wanted one of True, False")],
    "augmentation": [({"flip": True}, "wanted an object of the class Augmentation"), (True, "wanted an object")],
}
SPLIT = [
    ("split", (0.5, 0.5), "wanted three shares"),
    ("split", "abc", "wanted three shares"),
    ("split", 0.8, "wanted three shares"),
    ("split", ("0.7", "0.2", "0.1"), "wanted three shares"),
    ("split_seed", -1, WHOLE + "0 or more"),
    ("split_seed", "1", WHOLE),
]
SAMPLES = [
    ("samples", 10, "wanted the images per class"),
    ("samples", {"train": 4}, "wanted the images per class"),
    ("drawing_seed", -1, WHOLE),
]
OF_ONE = {
    ImageFolderDataModule: [
        ("root", 3, "wanted a path"),
        ("root", None, "wanted a path"),
        ("multi_label", "yes", "wanted one of True, False"),
        ("label_from", "names", "wanted one of folder, name"),
        ("label_pattern", 3, "wanted a string"),
        ("label_pattern", "(", "is no regular expression"),
        ("label_pattern", "cat", "wanted a group in brackets"),
        *SPLIT,
    ],
    ImageTableDataModule: [
        ("table", 3, "wanted a path"),
        ("root", ["a"], "wanted a path"),
        ("path_column", 0, "wanted a string"),
        ("label_column", 1, "wanted a string"),
        ("split_column", False, "wanted a string"),
        ("separator", 1, "wanted a string"),
        *SPLIT,
    ],
    CatsAndDogsDataModule: [("root", 3, "wanted a path"), ("source", None, "wanted a path")],
    SketchPetsDataModule: [("root", 3, "wanted a path"), *SAMPLES],
    SketchCreaturesDataModule: [("root", 3, "wanted a path"), *SAMPLES],
    ImageDataModule: [("index", "my_images", "wanted an object of the class ImageIndex")],
}
REQUIRED = {ImageTableDataModule: {"table": "table.csv"}}


def refused(call, error, name, value, message):
    with pytest.raises(error) as found:
        call()
    said = str(found.value)
    assert said.startswith(f"{name}={value!r}"), said
    assert message in said
    assert "\n" not in said


@pytest.mark.parametrize("name", OF_ALL)
@pytest.mark.parametrize("module", OF_ONE, ids=lambda module: module.__name__)
def test_what_all_data_modules_take(module, name):
    for value, message in OF_ALL[name]:
        given = REQUIRED.get(module, {}) | {name: value}
        refused(lambda given=given: module(**given), DataError, name, value, message)


@pytest.mark.parametrize("module", OF_ONE, ids=lambda module: module.__name__)
def test_what_one_data_module_takes(module):
    for name, value, message in OF_ONE[module]:
        given = REQUIRED.get(module, {}) | {name: value}
        refused(lambda given=given: module(**given), DataError, name, value, message)


def test_numbers_of_numpy_are_numbers(image_folder):
    images = ImageFolderDataModule(
        str(image_folder),
        image_size=np.int64(16),
        batch_size=np.int32(5),
        max_bad_images=np.float32(0.5),
        split=np.array([0.5, 0.25, 0.25]),
        num_workers=np.int8(0),
        augmentation=Augmentation(rotation=np.float32(10), mixup=np.float64(0.5)),
    )
    images.setup()
    pixels, labels = next(iter(images.train_dataloader()))
    assert (pixels.shape, labels.shape) == ((5, 3, 16, 16), (5, 2))
    assert type(images.augmentation.rotation) is float


def test_paths_are_of_either_kind(image_folder, tmp_path, quiet_trainer):
    kept = {"image_size": 32, "num_workers": 0, "left_out_report": tmp_path / "left_out.csv"}
    (tmp_path / "labels.csv").write_text(
        "path,label,split\n"
        + "".join(
            f"{split}/{name}/{name}.{i}.jpg,{name},{split}\n"
            for split in ("train", "validation")
            for name in ("cats", "dogs")
            for i in range(3)
        )
    )
    samples = {"train": 2, "validation": 2, "test": 2}
    for kind in (Path, str):
        folder = ImageFolderDataModule(kind(image_folder), **kept)
        table = ImageTableDataModule(kind(tmp_path / "labels.csv"), kind(image_folder), **kept)
        drawn = SketchPetsDataModule(kind(tmp_path / "pets"), samples, **kept)
        known = CatsAndDogsDataModule(kind(image_folder), kind(tmp_path / "none.zip"), **kept)
        splits = {
            split: Samples(tuple(kind(f"{split}/cats/cats.{i}.jpg") for i in range(2)), (0, 1))
            for split in ("train", "validation")
        }
        own = ImageDataModule(ImageIndex(kind(image_folder), ("one", "two"), splits), **kept)
        for images in (folder, table, drawn, known, own):
            images.prepare_data()
            images.setup()
            assert len(next(iter(images.val_dataloader()))[1]) > 0
            assert all(type(path) is str for path in images.index.paths)
        backbone = Backbone("squeezenet1_1", None)
        store = extract_features(quiet_trainer(), backbone, folder, root=kind(tmp_path / kind.__name__))
        features = FeatureDataModule(kind(store.path))
        features.setup()
        assert features.store.paths("test") == FeatureStore(kind(store.path)).paths("test")


def test_features(image_folder, tmp_path, quiet_trainer):
    for name, value, message in (
        ("batch_size", 0, WHOLE),
        ("batch_size", "20", WHOLE),
        ("seed", -1, WHOLE),
        ("in_memory", "no", "wanted one of True, False"),
        ("images", str(image_folder), "wanted an object of the class ImageDataModule"),
    ):
        given = {"store": "features", name: value}
        refused(lambda given=given: FeatureDataModule(**given), DataError, name, value, message)
    for kind in (FeatureStore, FeatureDataModule):
        refused(lambda kind=kind: kind(None), StoreError, "store", None, "wanted a path")
    images = ImageFolderDataModule(image_folder, image_size=32, num_workers=0)
    arguments = {"backbone": Backbone("squeezenet1_1", None), "images": images, "root": tmp_path}
    for name, value, message in (
        ("root", 3, "wanted a path"),
        ("dtype", "bfloat16", "wanted one of float16, float32"),
        ("views", 1.5, WHOLE + "1 or more"),
        ("views", "2", WHOLE),
        ("images", str(image_folder), "wanted an object of the class ImageDataModule"),
        ("backbone", "squeezenet1_1", "wanted an object of the class Backbone"),
    ):
        given = arguments | {name: value}
        refused(lambda given=given: extract_features(quiet_trainer(), **given), StoreError, name, value, message)
    assert not list(tmp_path.iterdir())
