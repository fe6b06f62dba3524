"""The CSV file says of each image what the checkpoint says, in the order of the files."""

import csv
from pathlib import Path

import pytest

from conftest import draw_image
from lightning_transfer import load_classifier
from lightning_transfer.cli.commands.predict import predict
from lightning_transfer.errors import DataError, ModuleError, OutputError
from runs import finished

EXACT = {"accelerator": "cpu", "num_workers": 0, "precision": "32-true"}
COLOURS = [(200, 90, 60), (60, 120, 200), (90, 200, 90)]


@pytest.fixture
def folder(tmp_path):
    """Images at three depths, and what is none of them."""
    root = tmp_path / "new"
    places = ["b.jpg", "a 1.png", "summer/c.jpg", "summer/deep/d.JPG", "winter/e.jpeg", "ünter,'quoted\".jpg"]
    for number, place in enumerate(places):
        draw_image(root / place, COLOURS[number % 3], number, (40 + 9 * number, 50))
    draw_image(root / ".hidden.jpg", COLOURS[0], 0)
    draw_image(root / "__MACOSX" / "b.jpg", COLOURS[0], 0)
    draw_image(tmp_path / "elsewhere" / "f.jpg", COLOURS[0], 0)
    (root / "notes.txt").write_text("not an image")
    (root / "out.jpg").symlink_to(tmp_path / "elsewhere" / "f.jpg")
    (root / "round").symlink_to(root)
    return root


ORDER = ["a 1.png", "b.jpg", "summer/c.jpg", "summer/deep/d.JPG", "winter/e.jpeg", "ünter,'quoted\".jpg"]


def rows(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize("regime", ["FeatureClassifier", "FineTuningClassifier", "FrozenBackboneClassifier"])
def test_a_row_for_each_image_in_order(checkpoints, folder, tmp_path, regime, batch_size):
    out = predict(str(checkpoints[regime]), str(folder), str(tmp_path / "p.csv"), batch_size=batch_size, **EXACT)
    table = rows(out)
    assert [row["path"] for row in table] == ORDER
    assert list(table[0]) == ["path", "label", "probability_cats", "probability_dogs"]
    expected = load_classifier(checkpoints[regime]).classify([folder / name for name in ORDER])
    assert len({prediction.probability for prediction in expected}) == len(ORDER)
    for row, prediction in zip(table, expected, strict=True):
        assert row["label"] == prediction.label
        for name in ("cats", "dogs"):
            assert float(row[f"probability_{name}"]) == pytest.approx(prediction.probabilities[name], abs=2e-6)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_the_command_line(command, checkpoints, folder, capsys):
    words = ["--ckpt_path", checkpoints["FeatureClassifier"], "--data", folder]
    assert command("predict", *words, "--accelerator=cpu", "--num_workers=1") == 0
    said = capsys.readouterr().out
    assert "6 images through squeezenet1_1" in said
    assert "6 predictions: predictions.csv" in said
    before = Path("predictions.csv").read_bytes()
    assert [row["path"] for row in rows("predictions.csv")] == ORDER

    assert command("predict", *words) == 1
    assert "predictions.csv is there already: pass --overwrite" in " ".join(capsys.readouterr().err.split())
    assert Path("predictions.csv").read_bytes() == before
    (folder / "b.jpg").unlink()
    assert command("predict", *words, "--accelerator=cpu", "--num_workers=0", "--overwrite") == 0
    assert [row["path"] for row in rows("predictions.csv")] == [path for path in ORDER if path != "b.jpg"]


def test_an_unreadable_image_is_named_and_the_others_are_done(command, checkpoints, folder, capsys):
    (folder / "summer" / "c.jpg").write_bytes(b"")
    words = ["--ckpt_path", checkpoints["FrozenBackboneClassifier"], "--data", folder, "--num_workers=1"]
    assert command("predict", *words, "--accelerator=cpu") == 1
    error = capsys.readouterr().err
    assert "1 of 6 images could not be read; their rows in predictions.csv are empty" in error
    assert "summer/c.jpg cannot be read as an image (" in error
    assert "Traceback" not in error
    table = rows("predictions.csv")
    assert [row["path"] for row in table] == ORDER
    for row in table:
        filled = [bool(value) for name, value in row.items() if name != "path"]
        assert filled == [row["path"] != "summer/c.jpg"] * 3


def test_nothing_is_written_where_there_is_nothing_to_say(checkpoints, tmp_path):
    out = tmp_path / "p.csv"
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    for data, message in (("empty", "There are no images in"), ("nowhere", "does not exist")):
        with pytest.raises(DataError, match=message):
            predict(str(checkpoints["FeatureClassifier"]), str(tmp_path / data), str(out), **EXACT)
    with pytest.raises(ModuleError, match="There is no checkpoint"):
        predict("nowhere.ckpt", str(tmp_path), str(out), **EXACT)
    with pytest.raises(OutputError, match="does not exist: make it first"):
        predict("nowhere.ckpt", str(tmp_path), str(tmp_path / "no" / "p.csv"), **EXACT)
    assert not out.exists()


@pytest.mark.nightly
def test_two_processes_write_what_one_does(checkpoints, folder, tmp_path, command):
    (folder / "b.jpg").write_bytes(b"")
    words = ["--ckpt_path", checkpoints["FeatureClassifier"], "--data", folder, "--precision=32-true"]
    words += ["--batch_size=2", "--num_workers=0", "--accelerator=cpu"]
    assert command("predict", *words, "--out", tmp_path / "one.csv") == 1
    words += ["--devices=2", "--strategy=ddp", "--out=two.csv"]
    done = finished("-m", "lightning_transfer", "predict", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "b.jpg cannot be read" in done.stderr
    one, two = rows(tmp_path / "one.csv"), rows(tmp_path / "two.csv")
    assert [(row["path"], row["label"]) for row in one] == [(row["path"], row["label"]) for row in two]
    for a, b in zip(one, two, strict=True):
        for name in ("probability_cats", "probability_dogs"):
            assert (a[name] == b[name] == "") or float(a[name]) == pytest.approx(float(b[name]), abs=2e-6)
