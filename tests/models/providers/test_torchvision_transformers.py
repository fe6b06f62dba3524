"""Transformers at sizes other than their weights' own, and files of other times, against torchvision itself."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

import tiny_networks
from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError
from lightning_transfer.models.providers.torchvision_transformers import any_partition


def lively(network):
    """Random numbers everywhere, also where networks begin with zeros or ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


def written(network, path):
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return str(path)


def images_of(size, number=2):
    return torch.randint(0, 256, (number, 3, size, size), dtype=torch.uint8)


def normalised(images):
    return (images / 255 - 0.5) / 0.5


@pytest.mark.parametrize("trained_at", [32, 48])
@pytest.mark.parametrize("size", [16, 32, 64])
def test_positions_are_interpolated_as_torchvision_does(trained_at, size, tmp_path):
    network = lively(tiny_networks.vit(trained_at))
    backbone = Backbone("small/vit_xs", written(network, tmp_path / "vit.safetensors")).eval()
    oracle = tiny_networks.vit(size).eval()
    oracle.load_state_dict(interpolate_embeddings(size, 8, dict(network.state_dict())))
    images = images_of(size)
    with torch.no_grad():
        features = backbone(images)
        assert features.shape == (2, 1 + (size // 8) ** 2, 16)
        assert features.shape[1:] == backbone.out_shape(size)
        logits = network.heads(backbone.native_pool()(features))
        torch.testing.assert_close(logits, oracle(normalised(images)), rtol=1e-5, atol=1e-5)
    assert backbone.stages["patch_embed"].pos_embedding.shape == (1, 1 + (trained_at // 8) ** 2, 16)


def test_interpolated_positions_train():
    backbone = Backbone("small/vit_xs", None)
    backbone(images_of(48)).sum().backward()
    assert (backbone.stages["patch_embed"].pos_embedding.grad != 0).any(dim=2).all()


def test_images_need_not_be_square():
    assert Backbone("small/vit_xs", None)(torch.zeros(1, 3, 16, 40)).shape == (1, 1 + 2 * 5, 16)


def test_a_checkpoint_of_more_patches_is_taken(tmp_path):
    trained = Backbone("small/vit_xs", written(lively(tiny_networks.vit(48)), tmp_path / "vit.safetensors")).eval()
    images = images_of(48)
    for assign in (False, True):
        backbone = Backbone("small/vit_xs", None).eval()
        parameter = backbone.stages["patch_embed"].pos_embedding
        backbone.load_state_dict(trained.state_dict(), assign=assign)
        assert assign or backbone.stages["patch_embed"].pos_embedding is parameter
        with torch.no_grad():
            assert torch.equal(backbone(images), trained(images))


@pytest.mark.parametrize("shape", [(1, 17, 8), (1, 16, 16), (17, 16)])
def test_what_are_no_positions_is_told(shape, tmp_path):
    state = {**tiny_networks.vit().state_dict(), "encoder.pos_embedding": torch.zeros(shape)}
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(BackboneError, match=r"1 of another shape \(encoder\.pos_embedding\)"):
        Backbone("small/vit_xs", str(tmp_path / "vit.pth"))


def test_keys_of_old_vit_files_are_understood(tmp_path):
    state = lively(tiny_networks.vit()).state_dict()
    old = {}
    for key, value in state.items():
        old[re.sub(r"mlp\.([03])\.", lambda m: f"mlp.linear_{1 + int(m[1]) // 3}.", key)] = value
    assert "encoder.layers.encoder_layer_0.mlp.linear_2.bias" in old
    # torchvision's own network takes such a file, too.
    tiny_networks.vit().load_state_dict(dict(old))
    torch.save(old, tmp_path / "old.pth")
    torch.save(dict(state), tmp_path / "new.pth")
    one, other = (Backbone("small/vit_xs", str(tmp_path / f"{name}.pth")) for name in ("old", "new"))
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("size", [16, 48, 64])
def test_maxvit_takes_multiples_of_its_windows(size, tmp_path):
    network = lively(tiny_networks.maxvit(32))
    backbone = Backbone("small/maxvit_xs", written(network, tmp_path / "maxvit.safetensors")).eval()
    oracle = tiny_networks.maxvit(size).eval()
    oracle.load_state_dict(network.state_dict())
    images = images_of(size)
    with torch.no_grad():
        found = nn.Sequential(*network.classifier[3:])(backbone.native_pool()(backbone(images)))
        torch.testing.assert_close(found, oracle(normalised(images)), rtol=1e-5, atol=1e-5)
        # The same layers, at another size in between.
        backbone(images_of(32))
        torch.testing.assert_close(network.classifier[3:](backbone.native_pool()(backbone(images))), found)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("small/vit_xs", 60, "image_size=60 is no multiple of 8: pass 56 or 64"),
        ("small/vit_xs", 5, "image_size=5 is no multiple of 8: pass 8"),
        ("small/maxvit_xs", 40, "image_size=40 is no multiple of 16: pass 32 or 48"),
    ],
)
def test_a_size_that_does_not_fit_is_told_with_its_neighbours(name, size, message):
    with pytest.raises(BackboneError, match=message):
        Backbone(name, None).out_shape(size)


def test_other_networks_are_left_alone():
    network = tiny_networks.vit()
    assert any_partition(network) is network
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("name", ["swin_xs", "swin_v2_xs"])
@pytest.mark.parametrize("size", [30, 32, 50])
def test_swin_gives_maps_at_any_size_with_channels_last_in_memory(name, size, tmp_path):
    network = lively(tiny_networks.NETWORKS[name]())
    backbone = Backbone(f"small/{name}", written(network, tmp_path / "swin.safetensors")).eval()
    images = images_of(size)
    with torch.no_grad():
        expected = network.norm(network.features(backbone.normalise(images))).permute(0, 3, 1, 2)
        features = backbone.normalise(images)
        for stage in backbone.stages.values():
            features = stage(features)
            assert features.permute(0, 2, 3, 1).is_contiguous()
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
        assert features.shape[1:] == backbone.out_shape(size)
