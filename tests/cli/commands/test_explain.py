"""The figure that `explain` writes, and what it says and refuses."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from conftest import COLOURS, draw_image
from lightning_transfer import FineTuningClassifier, load_classifier
from lightning_transfer.cli.commands import explain as command_module
from lightning_transfer.cli.commands.explain import explain
from lightning_transfer.data.decoding import UnreadableImageError
from lightning_transfer.errors import BackboneError, ModuleError, OutputError
from lightning_transfer.inference.grad_cam import grad_cam


@pytest.fixture
def save(quiet_trainer, tmp_path):
    """Saves a checkpoint of three classes on a small backbone with random weights."""

    def save(change=lambda model: None):
        torch.manual_seed(0)
        model = FineTuningClassifier("resnet18", weights=None, num_classes=3, image_size=64, pool="avg", hidden=8)
        model.class_names, model.resize = ("cats", "dogs", "horses"), "squash"
        change(model)
        trainer = quiet_trainer()
        trainer.strategy.connect(model)
        trainer.save_checkpoint(tmp_path / "model.ckpt")
        return str(tmp_path / "model.ckpt")

    return save


@pytest.fixture
def image(tmp_path):
    draw_image(tmp_path / "a.jpg", COLOURS["cats"], seed=0, size=(80, 60))
    return str(tmp_path / "a.jpg")


@pytest.fixture
def drawn(monkeypatch):
    """What the command hands to the figure."""
    calls = []
    draw = command_module.heat_overlay

    def noting(*arguments):
        calls.append(arguments)
        return draw(*arguments)

    monkeypatch.setattr(command_module, "heat_overlay", noting)
    return calls


def test_the_figure_shows_the_networks_image_and_heat_with_class_and_probability(
    save, image, drawn, command, capsys, tmp_path
):
    checkpoint = save()
    assert command("explain", checkpoint, image, "--stage", "layer2") == 0
    classifier = load_classifier(checkpoint)
    (prediction,) = classifier.classify([image])
    ((shown, places, image_title, heat_title),) = drawn
    expected = Image.open(image).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(shown, np.asarray(expected))
    images = torch.from_numpy(shown.copy()).permute(2, 0, 1)[None]
    np.testing.assert_allclose(places, grad_cam(classifier, images, "layer2", prediction.label)[0], atol=1e-5)
    assert image_title == "a.jpg"
    title = f"{prediction.label} {prediction.probability:.1%}"
    assert heat_title == f"{title}\nstage layer2"
    assert capsys.readouterr().out == f"{image}: {title}, stage layer2: heat.png\n"
    with Image.open(tmp_path / "heat.png") as figure:
        assert figure.format == "PNG"
        assert figure.width > figure.height


def test_another_class_than_the_predicted_one_can_be_explained(save, image, drawn, tmp_path):
    checkpoint = save()
    (prediction,) = load_classifier(checkpoint).classify([image])
    for label in ("cats", "dogs", "horses"):
        explain(checkpoint, image, str(tmp_path / f"{label}.png"), label=label)
    for label, (_, _, _, title) in zip(("cats", "dogs", "horses"), drawn, strict=True):
        predicted = "" if label == prediction.label else f" (predicted: {prediction.label})"
        assert title.startswith(f"{label} {prediction.probabilities[label]:.1%}{predicted}\nstage layer4")
    assert sum("predicted" in title for *_, title in drawn) == 2


def test_the_suffix_says_the_format(save, image, tmp_path):
    out = explain(save(), image, str(tmp_path / "heat.JPG"))
    with Image.open(out) as figure:
        assert figure.format == "JPEG"


def test_where_nothing_speaks_for_the_class_it_says_so(save, image, drawn, capsys, tmp_path):
    checkpoint = save(lambda model: nn.init.zeros_(model.head.logits.weight))
    explain(checkpoint, image, str(tmp_path / "heat.png"), label="dogs")
    ((_, places, _, title),) = drawn
    assert not places.any()
    assert title.endswith("stage layer4: nothing speaks for it")
    assert "nothing speaks for it" in capsys.readouterr().out


def test_a_file_that_is_there_is_replaced_only_on_request(save, image, tmp_path):
    checkpoint = save()
    out = tmp_path / "heat.png"
    out.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        explain(checkpoint, image, str(out))
    assert out.read_text() == "mine"
    explain(checkpoint, image, str(out), overwrite=True)
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"stage": "layer9"}, BackboneError, "stages are stem, layer1, layer2, layer3, layer4"),
        ({"label": "cat"}, ModuleError, "did you mean cats.*cats, dogs, horses"),
        ({"label": ""}, ModuleError, "no class ''"),
        ({"image": "absent.jpg"}, UnreadableImageError, "absent.jpg cannot be read"),
        ({"out": "heat.xyz"}, OutputError, "heat.xyz.*png"),
        ({"out": "heat"}, OutputError, "wanted a suffix"),
        ({"checkpoint": "absent.ckpt"}, ModuleError, "absent.ckpt"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_written(
    save, image, tmp_path, monkeypatch, arguments, kind, message
):
    monkeypatch.chdir(tmp_path)
    checkpoint = save()
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(kind, match=message):
        explain(**({"checkpoint": checkpoint, "image": image} | arguments))
    assert {path.name for path in tmp_path.iterdir()} == before


def test_without_captum_the_command_line_names_the_extra(save, image, command, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert command("explain", save(), image) == 1
    assert (
        'error: Explaining needs captum, which is not installed: pip install "lightning-transfer[explain]".'
        in (" ".join(capsys.readouterr().err.split()))
    )
    assert not (tmp_path / "heat.png").exists()
