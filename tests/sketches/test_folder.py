"""A folder of sketches is whole or absent, and the same for the same seed."""

import json

import numpy as np
import pytest
from PIL import Image

from lightning_transfer.errors import DataError
from lightning_transfer.sketches.folder import SketchFolder


def square(rng, size):
    """A gray square somewhere on noise: a drawing that takes no time."""
    pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    left, top = (int(value) for value in rng.integers(0, size // 2, 2))
    pixels[top : top + 8, left : left + 8] = 128
    return Image.fromarray(pixels), (left, top, left + 8, top + 8)


def failing(rng, size):
    raise KeyboardInterrupt


def folder(root, seed=0, draw=square, **samples):
    return SketchFolder(root, {"ones": draw, "others": draw}, samples or {"train": 3, "test": 2}, 32, seed)


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def test_the_layout_is_that_of_cats_and_dogs_small(tmp_path):
    sketches = folder(tmp_path / "data" / "sketches")
    sketches.build()
    assert contents(sketches.root).keys() == {
        f"{split}/{name}/{name}.{number}.jpg"
        for split, count in (("train", 3), ("test", 2))
        for name in ("ones", "others")
        for number in range(count)
    }
    assert sketches.boxes().keys() == contents(sketches.root).keys()
    with Image.open(sketches.root / "train/ones/ones.0.jpg") as image:
        left, top, right, bottom = sketches.boxes()["train/ones/ones.0.jpg"]
        inside = np.asarray(image)[top + 2 : bottom - 2, left + 2 : right - 2]
    assert abs(inside.astype(int) - 128).mean() < 12


def test_the_same_seed_draws_the_same_and_another_another(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        folder(tmp_path / name, seed).build()
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert len({*one.values(), *three.values()}) == 20, "no image twice"


def test_more_images_begin_with_the_same(tmp_path):
    folder(tmp_path / "few", train=2).build()
    folder(tmp_path / "many", train=4).build()
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    assert few.items() <= many.items()


def test_what_is_there_is_not_drawn_again(tmp_path):
    folder(tmp_path / "sketches").build()
    folder(tmp_path / "sketches", draw=failing).build()


def test_other_sketches_are_not_overwritten(tmp_path):
    folder(tmp_path / "sketches").build()
    with pytest.raises(
        DataError, match=r"is there, but not as wanted: sketches \(version 1, seed 1, image_size 32"
    ):
        folder(tmp_path / "sketches", seed=1).build()


def test_images_of_somebody_elses_are_not_overwritten(tmp_path):
    (tmp_path / "sketches").mkdir()
    (tmp_path / "sketches" / "mine.jpg").touch()
    with pytest.raises(DataError, match="Pass another root, or remove it"):
        folder(tmp_path / "sketches").build()


def test_a_stop_leaves_nothing(tmp_path, monkeypatch):
    write = json.dumps

    def stop(value):
        write(value)
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_transfer.sketches.folder.json.dumps", stop)
    with pytest.raises(KeyboardInterrupt):
        folder(tmp_path / "data" / "sketches").build()
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".sketches.lock"]
    folder(tmp_path / "data" / "sketches").build()
