"""A saved backbone is a file that torchvision's own network takes, and that makes the same backbone again."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError
from lightning_transfer.models.saving import save_weights
from tiny_networks import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_transformers_and_their_pooling_are_kept_too(name, tmp_path):
    torch.manual_seed(0)
    backbone = Backbone(f"small/{name}", weights=None).eval()
    for norm in backbone._native_pool[0].parameters():
        nn.init.normal_(norm)
    save_weights(backbone, tmp_path / "backbone.safetensors", {}, torch.float32)
    missing, unexpected = NETWORKS[name]().load_state_dict(
        load_file(tmp_path / "backbone.safetensors"), strict=False
    )
    assert unexpected == []
    assert all("head" in key or "classifier" in key or "num_batches" in key or "index" in key for key in missing)
    again = Backbone(f"small/{name}", weights=str(tmp_path / "backbone.safetensors")).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.native_pool()(backbone(images)), again.native_pool()(again(images)))


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "resnet18", "squeezenet1_1", "densenet121", "convnext_tiny"]
)
def test_torchvisions_own_network_takes_it(name, tmp_path):
    torch.manual_seed(0)
    backbone = Backbone(name, weights=None).eval()
    save_weights(backbone, tmp_path / "backbone.safetensors", {"origin": "nowhere"}, torch.float32)
    network = models.get_model(name, weights=None).eval()
    missing, unexpected = network.load_state_dict(load_file(tmp_path / "backbone.safetensors"), strict=False)
    assert unexpected == []
    assert all("classifier" in key or key.startswith("fc") or "num_batches" in key for key in missing)
    images = torch.rand(2, 3, 64, 64)
    again = Backbone(name, weights=str(tmp_path / "backbone.safetensors")).eval()
    with torch.no_grad():
        assert torch.equal(backbone(images), again(images))
    with safe_open(tmp_path / "backbone.safetensors", "pt") as file:
        assert file.metadata() == {"origin": "nowhere"}


def test_half_the_bytes_by_default(tmp_path):
    backbone = Backbone("mobilenet_v3_small", weights=None).eval()
    save_weights(backbone, tmp_path / "new" / "backbone.safetensors", {})
    assert (tmp_path / "new" / "backbone.safetensors").stat().st_size < 2.5e6
    again = Backbone("mobilenet_v3_small", weights=str(tmp_path / "new" / "backbone.safetensors"))
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=1e-3, atol=1e-6)


def test_numbers_that_do_not_fit_are_named(tmp_path):
    backbone = Backbone("squeezenet1_1", weights=None)
    with torch.no_grad():
        backbone.stages["stem"].conv1.bias[0] = 1e6
    with pytest.raises(BackboneError, match=r"features\.0\.bias has numbers that torch\.float16 cannot hold"):
        save_weights(backbone, tmp_path / "backbone.safetensors", {})


def test_a_part_of_a_backbone_is_refused(tmp_path):
    with pytest.raises(BackboneError, match="save the backbone with all its stages"):
        save_weights(Backbone("squeezenet1_1", None, last_stage="fire8"), tmp_path / "backbone.safetensors", {})
