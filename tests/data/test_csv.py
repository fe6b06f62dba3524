"""Tables of images: labels, several labels, splits, and what is wrong with a line."""

import re
from collections import Counter

import pytest
import torch

from conftest import COLOURS, draw_image
from lightning_transfer import ImageTableDataModule
from lightning_transfer.errors import DataError


def table(folder, text, name="labels.csv"):
    for path in {cell for line in text.splitlines()[1:] for cell in line.split(",") if cell.endswith(".jpg")}:
        if not (folder / path).exists() and not path.startswith("absent"):
            draw_image(folder / path, COLOURS["cats"], len(list(folder.rglob("*.jpg"))), (8, 6))
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def make(*arguments, **options):
    data = ImageTableDataModule(*arguments, **({"image_size": 8, "num_workers": 0} | options))
    data.setup()
    return data


SPLIT = "path,label,split\na.jpg,dogs,train\nb.jpg,cats,Training\nin/c.jpg,dogs,val\nd.jpg,cats,test\n"


def test_labels_and_splits_are_those_of_the_table(tmp_path):
    data = make(table(tmp_path, SPLIT), batch_size=2)
    assert (data.class_names, data.splits, data.multi_label) == (
        ("cats", "dogs"),
        ("train", "validation", "test"),
        False,
    )
    assert {split: (s.paths, s.labels) for split, s in data.index.splits.items()} == {
        "train": (("a.jpg", "b.jpg"), (1, 0)),
        "validation": (("in/c.jpg",), (1,)),
        "test": (("d.jpg",), (0,)),
    }
    images, labels = next(iter(data.loader("train")))
    assert (images.shape, labels.tolist(), labels.dtype) == ((2, 3, 8, 8), [1, 0], torch.int64)


def test_columns_root_and_byte_order_mark(tmp_path):
    draw_image(tmp_path / "images/a.jpg", COLOURS["cats"], 0)
    draw_image(tmp_path / "images/b.jpg", COLOURS["cats"], 1)
    draw_image(tmp_path / "images/c.jpg", COLOURS["cats"], 2)
    text = '\ufefffile,extra,class,part\na.jpg,1,"big, cats",train\nb.jpg,2,dogs,train\nc.jpg,3,dogs,dev\n'
    (tmp_path / "my.csv").write_text(text, encoding="utf-8")
    data = make(
        str(tmp_path / "my.csv"),
        str(tmp_path / "images"),
        path_column="file",
        label_column="class",
        split_column="part",
    )
    assert data.class_names == ("big, cats", "dogs")
    assert data.index.splits["validation"].paths == ("c.jpg",)


def test_a_table_without_splits_is_split_by_class_and_split_seed(tmp_path):
    rows = "".join(f"{name}{i}.jpg,{name}\n" for name in ("cats", "dogs") for i in range(8))
    path = table(tmp_path, f"path,label\n{rows}")
    first, again, other = (make(path, split_seed=split, seed=seed) for split, seed in ((0, 0), (0, 1), (1, 0)))
    assert {s: dict(Counter(first.index.splits[s].labels)) for s in first.splits} == {
        "train": {0: 6, 1: 6},
        "validation": {0: 1, 1: 1},
        "test": {0: 1, 1: 1},
    }
    assert first.index == again.index != other.index


def test_a_separator_makes_several_labels_or_none(tmp_path):
    text = (
        "path,label,split\na.jpg,cats|indoor,train\nb.jpg,,train\nc.jpg,dogs | cats,train\nd.jpg,dogs,validation\n"
    )
    data = make(table(tmp_path, text), separator="|", batch_size=3)
    assert (data.class_names, data.multi_label) == (("cats", "dogs", "indoor"), True)
    assert data.index.splits["train"].labels == ((0, 2), (), (0, 1))
    _, labels = next(iter(data.loader("train")))
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
    assert data.class_counts("train") == (2, 1, 1)
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 3  # augmented ones


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column of paths .* or labels .*, only an empty first line: pass path_column and label_"),
        ("path,width,height\na.jpg,1,2\n", "has no column of labels .*, only path, width, height: pass label_col"),
        ("path,label\n", "has no rows"),
        ("path,label\n,x\n", "line 2: no path in column 'path'"),
        ("path,label\na.jpg,x\nb.jpg,\n", "line 3: no label of b.jpg in column 'label'"),
        ("path,label\na.jpg,x\nb.jpg,x\na.jpg,y\n", "line 4: a.jpg is in line 2 already, with another label"),
        ("path,label\nabsent.jpg,x\n", "No row of {root}/labels.csv has a file: that of line 2, absent.jpg"),
        ("path,label\na.jpg,x\nb.jpg,x\n", "has 1 class in column 'label': wanted two or more"),
        (
            "path,label,split\na.jpg,x,fold 1\n",
            "line 2: the split 'fold 1' in column 'split': wanted train, validation or test",
        ),
        ("path,label,split\na.jpg,x,train\nb.jpg,y,\n", "line 3: b.jpg is in no split, and others are"),
        ("path,label,split\na.jpg,x,train\nb.jpg,y,val\n", "No image of y is in the train split"),
        (
            "path,label,split\na.jpg,x,train\nb.jpg,y,train\n",
            "No class has two images or more: none can be held out",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message.format(root=re.escape(str(tmp_path)))):
        make(table(tmp_path, text))


def test_a_misspelt_split_column_or_table_is_an_error(tmp_path):
    with pytest.raises(DataError, match="has no column 'part'"):
        make(table(tmp_path, SPLIT), split_column="part")
    with pytest.raises(DataError, match=r"The table .*absent\.csv cannot be read"):
        make(str(tmp_path / "absent.csv"))


def test_skip_lists_bad_files_after_rows_without_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jpg").write_text("no image")
    path = table(tmp_path, f"{SPLIT}absent.jpg,cats,train\nbad.jpg,cats,train\n")
    data = make(path, on_bad_image="skip", max_bad_images=0.2)
    assert [left_out for left_out, _ in data.index.left_out] == ["absent.jpg", "bad.jpg"]
    assert len(data.dataset("train")) == 2
