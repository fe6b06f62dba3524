"""A word stands for the right data module, and its images are there."""

from dataclasses import fields
from pathlib import Path

import pytest

from conftest import COLOURS, draw_folder, draw_image
from lightning_transfer import (
    CatsAndDogsDataModule,
    ImageFolderDataModule,
    ImageTableDataModule,
    SketchPetsDataModule,
)
from lightning_transfer.cli.data_by_name import data_by_name
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.errors import DataError, UsageError
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
        images = data_by_name(word, DataOptions(image_size=32, batch_size=3))
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
    assert data_by_name("sketch_pets", DataOptions(image_size=64)).root.name == "sketch_pets_64"


def test_the_seed_is_that_of_the_split(tmp_path):
    for name in ("cats", "dogs"):
        for number in range(8):
            draw_image(tmp_path / name / f"{number}.jpg", COLOURS[name], number)
    found = [data_by_name(str(tmp_path), DataOptions(split_seed=seed)) for seed in (0, 0, 1)]
    for images in found:
        images.setup()
    splits = [images.index.splits["train"].paths for images in found]
    assert splits[0] == splits[1] != splits[2]


def test_a_word_that_is_no_folder_is_refused():
    with pytest.raises(DataError, match="nowhere does not exist"):
        data_by_name("nowhere").setup()


OTHERS = {
    "use_cache": False,
    "image_size": 32,
    "resize": "crop",
    "batch_size": 3,
    "num_workers": 0,
    "split": (0.5, 0.25, 0.25),
    "split_seed": 3,
    "seed": 4,
    "max_images": 9,
    "on_bad_image": "skip",
    "max_bad_images": 0.5,
    "duplicates": "keep",
    "max_pixels": 1000,
    "label_from": "name",
    "label_pattern": "(.)",
}


OF_TABLES = {"root": "above", "path_column": "p", "label_column": "l", "split_column": ""}


def test_each_option_arrives():
    assert {*OTHERS, *OF_TABLES, "left_out_report", "bit_depth"} == {field.name for field in fields(DataOptions)}
    images = data_by_name("folder", DataOptions(**OTHERS), out="out")
    for name, value in OTHERS.items():
        assert getattr(images, name) == value, name
    assert images.left_out_report == Path("out/left_out.csv")
    assert data_by_name("folder", DataOptions(left_out_report=None)).left_out_report is None
    assert data_by_name("folder", DataOptions(left_out_report="a/{b}.csv")).left_out_report == Path("a/{b}.csv")


def test_those_of_a_table_arrive():
    images = data_by_name("labels.csv", DataOptions(**OF_TABLES))
    assert images.root == Path("above")
    assert (images.path_column, images.label_column, images.split_column) == ("p", "l", "")


@pytest.mark.parametrize("word", ["there.csv", "nowhere.tsv"])
def test_a_table_is_one_even_if_it_is_not_there(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("")
    images = data_by_name(word, DataOptions(split_seed=2))
    assert isinstance(images, ImageTableDataModule)
    assert (images.table.name, images.split_seed) == (word, 2)


def test_a_folder_may_be_called_as_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images.csv").mkdir()
    assert isinstance(data_by_name("images.csv"), ImageFolderDataModule)


@pytest.mark.parametrize(
    ("word", "foreign"),
    [
        ("sketch_pets", {"label_from": "name"}),
        ("cats_and_dogs", {"split_seed": 1}),
        ("sketch_pets", {"split": (0.5, 0.25, 0.25)}),
        ("labels.csv", {"label_from": "name"}),
        ("labels.csv", {"label_pattern": "(.)"}),
        ("sketch_pets", {"root": "elsewhere"}),
        ("cats_and_dogs", {"root": "elsewhere"}),
        ("folder", {"root": "elsewhere"}),
        ("folder", {"path_column": "p"}),
    ],
)
def test_an_option_that_the_data_do_not_have_is_refused(word, foreign):
    (name,) = foreign
    with pytest.raises(UsageError, match=f"^{name}=.*: --data {word} has no such option, a .* has: leave it out"):
        data_by_name(word, DataOptions(**foreign))
