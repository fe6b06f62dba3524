"""The weights that come with the library: small, told where they come from, and of use without a network."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision import models

from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError
from lightning_transfer.models.weights import BUNDLED
from lightning_transfer.sketches.creatures import CREATURES

FILE = BUNDLED["mobilenet_v3_small"]


def test_they_need_no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a network was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    backbone = Backbone("mobilenet_v3_small", weights="bundled").eval()
    network = models.mobilenet_v3_small(weights=None).eval()
    network.load_state_dict(load_file(FILE), strict=False)
    images = torch.rand(2, 3, 150, 150)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), network.features((images - mean) / std), rtol=1e-3, atol=1e-4)


def test_the_file_is_small_and_says_where_it_comes_from():
    assert FILE.stat().st_size <= 2.5e6
    with safe_open(FILE, "pt") as file:
        metadata = file.metadata()
    assert metadata["network"] == "mobilenet_v3_small"
    assert "SketchCreaturesDataModule" in metadata["origin"]
    assert "configs/pretrain_sketches.yaml" in metadata["origin"]
    hyperparameters = json.loads(metadata["hyperparameters"])
    assert hyperparameters["weights"] is None, "trained from nothing"
    assert hyperparameters["num_classes"] == len(CREATURES)
    assert float(metadata["validation/accuracy"]) > 0.5
    readme = FILE.with_name("README.md").read_text()
    for value in (metadata["date"], metadata["torch"], metadata["epochs"], f"{len(CREATURES)} "):
        assert value in readme, value
    assert f"{float(metadata['validation/accuracy']):.1%}" in readme


def test_other_networks_have_none():
    with pytest.raises(
        BackboneError, match="No weights of vgg16 come with this library, only those of mobilenet_v3"
    ):
        Backbone("vgg16", weights="bundled")
