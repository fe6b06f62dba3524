"""The data modules of sketches are data modules like any other."""

import torch

from lightning_transfer import SketchCreaturesDataModule, SketchPetsDataModule
from lightning_transfer.sketches.creatures import CREATURES


def test_pets_are_two_classes_in_three_splits(tmp_path):
    samples = {"train": 3, "validation": 2, "test": 1}
    data = SketchPetsDataModule(str(tmp_path / "pets"), samples, image_size=48, batch_size=4, num_workers=0)
    data.prepare_data()
    data.setup()
    assert data.class_names == ("cats", "dogs")
    assert data.num_classes == 2
    assert {split: len(data.dataset(split)) for split in data.splits} == {"train": 6, "validation": 4, "test": 2}
    assert data.class_counts("train") == (3, 3)
    images, labels = next(iter(data.val_dataloader()))
    assert images.shape == (4, 3, 48, 48)
    assert images.dtype == torch.uint8
    assert sorted(labels.tolist()) == [0, 0, 1, 1]
    assert data.boxes.keys() == {path for split in data.splits for path in data.dataset(split).samples.paths}


def test_creatures_have_a_class_each(tmp_path):
    samples = {"train": 1, "validation": 1, "test": 1}
    data = SketchCreaturesDataModule(str(tmp_path / "creatures"), samples, image_size=32, num_workers=0)
    data.prepare_data()
    data.setup()
    assert data.class_names == tuple(sorted(CREATURES))
    assert len(data.dataset("train")) == len(CREATURES)


def test_the_default_is_the_size_of_the_books_set():
    data = SketchPetsDataModule()
    assert (data.image_size, data.batch_size) == (150, 20)
    assert data.sketches.samples == {"train": 1000, "validation": 500, "test": 500}
