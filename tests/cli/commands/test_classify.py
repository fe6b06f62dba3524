"""A line for each image."""

import pytest

from conftest import draw_image
from lightning_transfer import load_classifier
from lightning_transfer.cli.commands.classify import classify


@pytest.fixture
def files(tmp_path):
    for number, name in enumerate(["b.jpg", "[bold]a.jpg"]):
        draw_image(tmp_path / name, (200 - 90 * number, 90, 60), number)
    return ["b.jpg", "[bold]a.jpg"]


def test_a_line_each_in_the_order_given(command, checkpoints, files, capsys):
    path = checkpoints["FeatureClassifier"]
    assert command("classify", path, *files) == 0
    lines = capsys.readouterr().out.splitlines()
    predictions = load_classifier(path).classify(files)
    assert [line.split() for line in lines] == [
        [name, prediction.label, f"{prediction.probability:.1%}"]
        for name, prediction in zip(files, predictions, strict=True)
    ]


def test_an_unreadable_image_is_named_and_the_others_are_done(command, checkpoints, files, capsys, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    words = ["page.jpg", files[0], "nowhere.png", files[1]]
    assert command("classify", checkpoints["FrozenBackboneClassifier"], *words) == 1
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == files
    assert "page.jpg cannot be read as an image" in said.err
    assert "nowhere.png cannot be read as an image" in said.err
    assert "Traceback" not in said.err


def test_from_python_it_gives_what_it_prints(command, checkpoints, files, capsys):
    predictions = classify(str(checkpoints["FineTuningClassifier"]), files)
    assert [prediction.path.name for prediction in predictions] == files
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_bad_checkpoints_are_one_paragraph(command, files, capsys):
    for path, message in (("nowhere.ckpt", "There is no checkpoint"), ("b.jpg", "cannot be read as a checkpoint")):
        assert command("classify", path, *files) == 1
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
