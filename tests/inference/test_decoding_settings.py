"""How files were decoded in training travels in the checkpoint, to all that read images with it."""

import csv
from pathlib import Path

import pytest
import torch

from conftest import COLOURS, draw_folder, draw_image
from lightning_transfer import (
    FeatureClassifier,
    FeatureDataModule,
    FrozenBackboneClassifier,
    ImageFolderDataModule,
    extract_features,
    load_classifier,
)
from lightning_transfer.data import image_list
from lightning_transfer.data.decoding import MAX_PIXELS, UnreadableImageError, load_image
from lightning_transfer.errors import DataError, ModuleError
from lightning_transfer.training.checkpoint_io import read_checkpoint

SMALL = 48 * 40  # pixels of the images that tests draw
REGIMES = (FrozenBackboneClassifier, FeatureClassifier)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, weights_file):
    """Makes a checkpoint of a regime that was trained on some data module."""
    root = draw_folder(tmp_path_factory.mktemp("trained"), counts=(4, 2))

    def train(regime, trainer, **arguments):
        images = ImageFolderDataModule(str(root), image_size=64, num_workers=0, **arguments)
        model = regime("squeezenet1_1", weights=str(weights_file), pool="avg", hidden=4)
        data = images
        if regime is FeatureClassifier:
            store = extract_features(trainer, model.backbone, images, root=root.parent / "features")
            data = FeatureDataModule(store, images=images)
        trainer.fit(model, data)
        path = tmp_path_factory.mktemp("checkpoint") / "best.ckpt"
        trainer.save_checkpoint(path)
        return path

    return train


@pytest.mark.parametrize("regime", REGIMES)
def test_it_is_in_the_checkpoint(trained, quiet_trainer, regime, tmp_path):
    path = trained(regime, quiet_trainer(max_epochs=1), max_pixels=SMALL)
    assert read_checkpoint(str(path))["max_pixels"] == SMALL
    classifier = load_classifier(path)
    assert (classifier.max_pixels, classifier.bit_depth) == (SMALL, None)
    draw_image(tmp_path / "large.png", COLOURS["cats"], 0, (48, 41))
    with pytest.raises(UnreadableImageError, match="more than max_pixels=1,920"):
        classifier.classify([tmp_path / "large.png"])
    load_classifier(path, max_pixels=48 * 41).classify([tmp_path / "large.png"])


def test_a_bit_depth_is_passed_on_where_there_is_one(trained, quiet_trainer, monkeypatch, tmp_path):
    monkeypatch.setattr(ImageFolderDataModule, "bit_depth", 12, raising=False)
    path = trained(FrozenBackboneClassifier, quiet_trainer(max_epochs=1))
    assert read_checkpoint(str(path))["bit_depth"] == 12
    asked = []

    def load(path, at_least, max_pixels, bit_depth):
        asked.append((max_pixels, bit_depth))
        return load_image(path, at_least, max_pixels)

    monkeypatch.setattr(image_list, "load_image", load)
    draw_image(tmp_path / "a.jpg", COLOURS["cats"], 0)
    classifier = load_classifier(path)
    classifier.classify([tmp_path / "a.jpg"])
    classifier.bit_depth = None
    classifier.classify([tmp_path / "a.jpg"])
    assert asked == [(MAX_PIXELS, 12), (MAX_PIXELS, 16)]


def test_a_resumed_run_records_what_its_own_data_say(trained, quiet_trainer, tmp_path, monkeypatch):
    path = trained(FrozenBackboneClassifier, quiet_trainer(max_epochs=1), max_pixels=SMALL)
    root = draw_folder(tmp_path / "images", counts=(4, 2))
    images = ImageFolderDataModule(str(root), image_size=64, num_workers=0, max_pixels=SMALL + 1)
    model = FrozenBackboneClassifier("squeezenet1_1", weights=None, pool="avg", hidden=4)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(model, images, ckpt_path=path, weights_only=True)
    trainer.save_checkpoint(tmp_path / "resumed.ckpt")
    assert load_classifier(tmp_path / "resumed.ckpt").max_pixels == SMALL + 1


def test_older_checkpoints_have_the_defaults(trained, quiet_trainer, tmp_path):
    path = trained(FrozenBackboneClassifier, quiet_trainer(max_epochs=1), max_pixels=SMALL)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["max_pixels"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    assert load_classifier(tmp_path / "old.ckpt").max_pixels == MAX_PIXELS
    for wrong in (0, "many", 1.5):
        torch.save({**checkpoint, "max_pixels": wrong}, tmp_path / "wrong.ckpt")
        with pytest.raises(ModuleError, match=r"max_pixels=.*: wanted a whole number"):
            load_classifier(tmp_path / "wrong.ckpt")
    with pytest.raises(DataError, match="max_pixels=0: wanted a whole number"):
        load_classifier(path, max_pixels=0)


def rows(path):
    with Path(path).open(newline="") as file:
        return [tuple(row.values())[:2] for row in csv.DictReader(file)]


def test_the_commands_know_it_and_can_be_told_otherwise(trained, quiet_trainer, command, capsys):
    path = trained(FrozenBackboneClassifier, quiet_trainer(max_epochs=1), max_pixels=SMALL)
    for name, size in (("a.jpg", (48, 40)), ("b.png", (60, 50))):
        draw_image(Path("new", name), COLOURS["cats"], 0, size)
    Path("new/notes.txt").write_text("")
    predict = ["predict", "--ckpt_path", path, "--data=new", "--accelerator=cpu", "--num_workers=0"]
    classify = ["classify", path, "new/a.jpg", "new/b.png"]
    explain = ["explain", path, "new/b.png"]
    for words in (predict, classify, explain):
        assert command(*words) == 1
        assert "more than max_pixels=1,920" in " ".join(capsys.readouterr().err.split())
    assert [name for name, label in rows("predictions.csv") if not label] == ["b.png"]
    assert not Path("heat.png").exists()

    predict.append("--overwrite")
    for words in (predict, classify, explain):
        assert command(*words, "--on_bad_image=skip") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 left out: not an image: .txt (notes.txt)" in said
    assert "1 left out: cannot be read (60 × 50 pixels, more than max_pixels=1,920) (b.png)" in said
    assert "All that is left out: predictions_left_out.csv" in said
    assert said.count("Left out: new/b.png cannot be read as an image") == 2
    assert [name for name, _ in rows("predictions.csv")] == ["a.jpg"]
    assert rows("predictions_left_out.csv") == [
        ("new/notes.txt", "not an image: .txt"),
        ("new/b.png", "cannot be read (60 × 50 pixels, more than max_pixels=1,920)"),
    ]
    assert not Path("heat.png").exists()

    Path("new/notes.txt").unlink()
    for words in (predict, classify, explain):
        assert command(*words, "--max_pixels=3000") == 0
    assert [bool(label) for _, label in rows("predictions.csv")] == [True, True]
    assert not Path("predictions_left_out.csv").exists(), "the list of the run before is still there"
    assert Path("heat.png").exists()


def test_a_list_that_is_there_is_not_overwritten_unasked(checkpoints, command, capsys, image_folder):
    Path("predictions_left_out.csv").write_text("mine")
    words = ["--ckpt_path", checkpoints["FeatureClassifier"], "--data", image_folder]
    assert command("predict", *words) == 1
    assert "predictions_left_out.csv is there already: pass --overwrite" in " ".join(
        capsys.readouterr().err.split()
    )
    assert Path("predictions_left_out.csv").read_text() == "mine"
    assert not Path("predictions.csv").exists()
