"""A word stands for the right data module, and its images are there."""

import pytest

from conftest import COLOURS, draw_folder, draw_image
from lightning_transfer import CatsAndDogsDataModule, ImageFolderDataModule, SketchPetsDataModule
from lightning_transfer.cli.data_by_name import data_by_name
from lightning_transfer.errors import DataError
from lightning_transfer.sketches.folder import SketchFolder


def test_each_word_stands_for_its_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SketchFolder, "build", lambda folder: draw_folder(folder.root))
    draw_folder(tmp_path / "data" / "cats_and_dogs_small", counts=(2, 1, 1))
    for word, module, train in (
        ("sketch_pets", SketchPetsDataModule, 24),
        ("cats_and_dogs", CatsAndDogsDataModule, 4),
        ("data/cats_and_dogs_small", ImageFolderDataModule, 4),
    ):
        images = data_by_name(word, image_size=32, batch_size=3)
        assert type(images) is module
        images.prepare_data()
        images.setup()
        assert len(images.dataset("train")) == train
        batch, labels = next(iter(images.loader("train")))
        assert (batch.shape, labels.shape) == ((3, 3, 32, 32), (3,))


def test_sketches_of_two_sizes_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SketchFolder, "build", lambda folder: draw_folder(folder.root))
    assert data_by_name("sketch_pets").root.name == "sketch_pets"
    assert data_by_name("sketch_pets", image_size=64).root.name == "sketch_pets_64"


def test_the_seed_is_that_of_the_split(tmp_path):
    for name in ("cats", "dogs"):
        for number in range(8):
            draw_image(tmp_path / name / f"{number}.jpg", COLOURS[name], number)
    found = [data_by_name(str(tmp_path), split_seed=seed) for seed in (0, 0, 1)]
    for images in found:
        images.setup()
    splits = [images.index.splits["train"].paths for images in found]
    assert splits[0] == splits[1] != splits[2]


def test_a_word_that_is_no_folder_is_refused():
    with pytest.raises(DataError, match="nowhere does not exist"):
        data_by_name("nowhere").setup()
