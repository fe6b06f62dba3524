"""Tables that hypothesis thinks of: refused, or every image gets the label of its row."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_transfer.data.csv import WITHOUT_FILE, WITHOUT_ROW, read_table
from lightning_transfer.errors import DataError

STEMS = ["1", "02", "a", "b.c", "ä", "Cat dog", "x;y", "p,q", "it's"]
FOLDERS = ["", "images", "deep/er"]
LABELS = ["cat", "dog", "0", "1", "10", "big, cat", "a;b", 'the "one"', "Käfer", "-"]
PATH_NAMES = ["path", "File Name", "IMAGE-ID", "img"]
LABEL_NAMES = ["label", "Class", "category", "diagnosis"]
SPLIT_NAMES = ["split", "Set", "fold_name"]
SPLITS = {"Train": "train", "val": "validation", "dev": "validation", "TEST": "test", "hold-out": "test"}

# An empty file is enough: only names are read.
images = st.dictionaries(st.sampled_from(STEMS), st.sampled_from([".jpg", ".PNG", ".webp"]), min_size=2)


def labels_of(index):
    """Path to (split, class name)."""
    return {
        path: (split, index.class_names[label])
        for split, samples in index.splits.items()
        for path, label in zip(samples.paths, samples.labels, strict=True)
    }


@pytest.mark.filterwarnings("error")
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    files=images,
    folder=st.sampled_from(FOLDERS),
    data=st.data(),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252"]),
)
def test_each_image_gets_the_label_of_its_row(files, folder, data, delimiter, encoding):
    draw = data.draw
    kinds = draw(st.lists(st.sampled_from(LABELS), min_size=2, max_size=4, unique=True))
    # Every class is trained on, so that most tables can be used.
    truth = {f"t{number}": (kind, "Train") for number, kind in enumerate(kinds)} | {"v": (kinds[0], "val")}
    files |= dict.fromkeys(truth, ".jpg")
    for stem in [*files, "absent"]:
        truth.setdefault(stem, (draw(st.sampled_from(kinds)), draw(st.sampled_from(list(SPLITS)))))
    chosen = [stem for stem in truth if stem not in files or stem[0] in "tv" or draw(st.booleans())]
    again = draw(st.lists(st.sampled_from(chosen), max_size=4))
    rows = []
    for stem in draw(st.permutations(chosen + again)):
        file = stem + draw(st.sampled_from(["", files.get(stem, ".jpg")]))
        rows.append((stem, file, *truth[stem]))
    stems = {stem for stem, *_ in rows}
    if draw(st.booleans()):
        stem, file, _, split = rows[0]
        rows.append((stem, file, draw(st.sampled_from(kinds)), split))
    header = [draw(st.sampled_from(names)) for names in (PATH_NAMES, LABEL_NAMES, SPLIT_NAMES)]
    order = draw(st.permutations(range(4)))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    for cells in ([*header, "other"], *((file, label, split, "7") for _, file, label, split in rows)):
        writer.writerow([cells[i] for i in order])
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / folder).mkdir(parents=True, exist_ok=True)
        for stem, suffix in files.items():
            (root / folder / (stem + suffix)).touch()
        (root / "labels.csv").write_bytes(text.getvalue().encode(encoding))
        try:
            index = read_table(root / "labels.csv")
        except DataError:
            return
    assert index.root == root / folder
    wanted = {}
    for stem, _, label, split in rows:
        if stem in files:
            wanted.setdefault(stem + files[stem], set()).add((SPLITS[split], label))
    found = labels_of(index)
    assert found == {path: next(iter(own)) for path, own in wanted.items() if len(own) == 1}
    assert len(wanted) - len(found) <= 1
    reasons = dict(index.left_out)
    assert {path for path, reason in reasons.items() if reason == WITHOUT_ROW} == {
        stem + suffix for stem, suffix in files.items() if stem not in stems
    }
    absent = {file for stem, file, _, _ in rows if stem == "absent"}
    assert {path for path, reason in reasons.items() if reason == WITHOUT_FILE} == absent


LINES = st.lists(
    st.lists(
        st.sampled_from(["a", "a.jpg", "b.png", "../a", "/", ".", "cat", "dog", "train", "val", '"', "", "\r"])
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    header=st.lists(
        st.sampled_from(["path", "label", "split", "Path", "id", "name", "other", "", "a.jpg", "cat"])
    ),
    lines=LINES,
    end=st.binary(max_size=8),
    separator=st.sampled_from([None, "|", "a"]),
)
def test_a_table_of_anything_is_refused_or_right(header, lines, end, separator):
    content = "\n".join(",".join(line) for line in (header, *lines)).encode() + end
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in ("a.jpg", "b.png"):
            (root / name).touch()
        (root / "labels.csv").write_bytes(content)
        try:
            index = read_table(root / "labels.csv", separator=separator, shares=(0.5, 0.5, 0.0))
        except DataError:
            return
    assert all(path in ("a.jpg", "b.png") for samples in index.splits.values() for path in samples.paths)
    if separator is None:
        for path, (_, label) in labels_of(index).items():
            together = [line for line in (header, *lines) if {path, path[0]} & set(line) and label in line]
            assert together or end
