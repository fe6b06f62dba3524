"""Backbone against torchvision's own, untouched networks."""

import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError
from lightning_transfer.models import backbone as backbone_module
from lightning_transfer.models.providers.torchvision import build_empty_network, network_names, stages_of

TRANSFORMERS = {
    *("maxvit_t", "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t"),
    *("vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32"),
}
IMAGENET = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
HALF = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)


def remaining(name, network, features):
    """What torchvision's forward() does after the convolutional part, with its own layers."""
    if name.startswith("squeezenet"):
        return network.classifier(features).flatten(1)
    if name.startswith(("shufflenet", "mnasnet")):
        classifier = network.fc if hasattr(network, "fc") else network.classifier
        return classifier(features.mean([2, 3]))
    if name.startswith("densenet"):
        return network.classifier(F.adaptive_avg_pool2d(features, 1).flatten(1))
    if name.startswith("mobilenet_v2"):
        return network.classifier(F.adaptive_avg_pool2d(features, (1, 1)).flatten(1))
    if name.startswith("convnext"):
        return network.classifier(network.avgpool(features))
    pooled = network.avgpool(features).flatten(1)
    return (network.fc if hasattr(network, "fc") else network.classifier)(pooled)


def lively(name):
    """The untouched network with numbers that make every layer matter, BatchNorm's statistics too."""
    network = build_empty_network(name).to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        for key, tensor in module.named_parameters(recurse=False):
            if tensor.ndim > 1:
                fan_in = max(1, tensor[0].numel())
                nn.init.uniform_(tensor, -((3 / fan_in) ** 0.5), (3 / fan_in) ** 0.5, generator=generator)
            else:
                low = 0.5 if key == "weight" else -0.1
                nn.init.uniform_(tensor, low, low + 0.5, generator=generator)
        for key, buffer in module.named_buffers(recurse=False):
            if key == "running_mean":
                buffer.uniform_(-0.1, 0.1, generator=generator)
            elif key == "running_var":
                buffer.uniform_(0.5, 1.5, generator=generator)
    return network


def test_every_convolutional_network_of_torchvision_is_known():
    listed = set(models.list_models(module=models))
    assert set(network_names()) == listed - TRANSFORMERS
    assert len(network_names()) >= 60


def one_of_each_family_and_the_rest_nightly():
    """The networks of torchvision, by their family's name the smallest of each first."""
    size = {name: sum(p.numel() for p in build_empty_network(name).parameters()) for name in network_names()}
    families = {re.match(r"[a-z]+(_v\d)?", name)[0]: name for name in sorted(size, key=size.get, reverse=True)}
    small = set(families.values())
    return [name if name in small else pytest.param(name, marks=pytest.mark.nightly) for name in network_names()]


@pytest.mark.parametrize("name", one_of_each_family_and_the_rest_nightly())
def test_backbone_and_torchvisions_remaining_layers_make_the_whole_network(name, monkeypatch):
    network = lively(name)
    monkeypatch.setattr(backbone_module, "read_weights", lambda source: network.state_dict())
    backbone = Backbone(name, weights="DEFAULT").eval()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    # What torchvision's own preset for these weights does after resizing; stated here by hand.
    mean, std = HALF if name == "efficientnet_v2_l" else IMAGENET
    if name in ("googlenet", "inception_v3"):
        network.transform_input = True
    with torch.no_grad():
        expected = network((images / 255 - mean) / std)
        features = backbone(images)
        got = remaining(name, network, features)
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
        assert features.shape[1:] == backbone.out_shape(96)
        cut = backbone.stage_names[len(backbone.stage_names) // 2]
        prefix, suffix = backbone.split(cut)
        torch.testing.assert_close(suffix(prefix(images)), features)


def test_vgg16_at_150_is_the_books():
    backbone = Backbone("vgg16", weights=None)
    assert sum(p.numel() for p in backbone.parameters()) == 14_714_688
    assert backbone.out_shape(150) == (512, 4, 4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "convnext_tiny"])
def test_each_cut_splits_without_a_copy(name):
    backbone = Backbone(name, weights=None).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        whole = backbone(images)
        for cut in backbone.stage_names:
            prefix, suffix = backbone.split(cut)
            assert torch.equal(suffix(prefix(images)), whole)
            assert (*prefix.stage_names, *dict(suffix.named_children())) == backbone.stage_names
            own = {id(p) for p in backbone.parameters()}
            assert {id(p) for p in (*prefix.parameters(), *suffix.parameters())} == own
    assert backbone.stage_names == Backbone(name, weights=None).stage_names, "split changed the backbone"


def test_until_keeps_the_stages_up_to_it():
    backbone = Backbone("vgg16", weights=None, last_stage="block3")
    assert backbone.stage_names == ("block1", "block2", "block3")
    assert backbone.out_shape(150) == (256, 18, 18)


def test_uint8_and_floating_images_give_the_same():
    torch.manual_seed(0)
    backbone = Backbone("squeezenet1_1", weights=None).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), backbone(images / 255), rtol=1e-3, atol=1e-4)


def test_out_shape_leaves_modes_and_statistics_alone():
    backbone = Backbone("resnet18", weights=None).train()
    backbone.stages["layer1"].eval()
    modes = [module.training for module in backbone.modules()]
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.out_shape(64)
    assert modes == [module.training for module in backbone.modules()]
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_fingerprint_stands_for_what_the_backbone_computes():
    torch.manual_seed(0)
    backbone = Backbone("resnet18", weights=None)
    torch.manual_seed(0)
    same = Backbone("resnet18", weights=None)
    assert backbone.fingerprint() == same.fingerprint() == backbone.train().fingerprint()
    prints = {
        backbone.fingerprint(),
        backbone.split("layer4")[0].fingerprint(),
        backbone.split("layer3")[0].fingerprint(),
    }
    for key in ("stages.layer4.1.conv2.weight", "stages.stem.bn1.running_mean", "normalise.std"):
        same.state_dict()[key][(0,) * same.state_dict()[key].ndim] += 1e-3
        prints.add(same.fingerprint())
    assert len(prints) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg61",), "no network 'vgg61' in torchvision. Nearest: vgg19, vgg16"),
        (("vit_b_16",), "vit_b_16 is built of attention.*resnet18"),
        (("swin_t",), "swin_t is built of attention"),
        (("vgg16", None, "block6"), r"vgg16 has no stage 'block6' \(did you mean block5\?\).*block1, block2"),
        (("vgg16", "IMAGENET1K"), "did you mean IMAGENET1K_V1"),
        (("vgg16", "https://example.org/vgg16.pth"), "wanted a local file"),
    ],
)
def test_what_is_unknown_is_named_with_its_neighbours(arguments, message):
    with pytest.raises(BackboneError, match=message):
        Backbone(*arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 64, 64), r"\(B, 3, H, W\), got \(3, 64, 64\)"),
        (torch.zeros(1, 1, 64, 64), r"got \(1, 1, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "got torch.int64"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(BackboneError, match=message):
        Backbone("squeezenet1_1", weights=None)(images)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(BackboneError, match="20 × 20 are too small for inception_v3"):
        Backbone("inception_v3", weights=None).out_shape(20)


def test_stage_names_of_the_families():
    expected = {
        "alexnet": "conv1 conv2 conv3 conv4 conv5",
        "vgg19_bn": "block1 block2 block3 block4 block5",
        "resnet50": "stem layer1 layer2 layer3 layer4",
        "squeezenet1_0": "stem fire2 fire3 fire4 fire5 fire6 fire7 fire8 fire9",
        "densenet121": "stem denseblock1 denseblock2 denseblock3 denseblock4",
        "googlenet": "stem inception3 inception4 inception5",
        "inception_v3": "stem mixed5 mixed6 mixed7",
        "mobilenet_v2": "stem block1 block2 block3 block4 block5 block6 block7 last_conv",
        "mobilenet_v3_small": "stem block1 block2 block3 block4 block5 last_conv",
        "efficientnet_b0": "stem block1 block2 block3 block4 block5 block6 block7 last_conv",
        "mnasnet1_0": "stem block1 block2 block3 block4 block5 block6 last_conv",
        "regnet_y_400mf": "stem block1 block2 block3 block4",
        "shufflenet_v2_x1_0": "stem stage2 stage3 stage4 conv5",
        "convnext_tiny": "stem stage1 stage2 stage3 stage4",
    }
    for name, stages in expected.items():
        assert tuple(stages_of(name, build_empty_network(name))) == tuple(stages.split())


def test_reductions_grow_along_the_row():
    for name, (size, _) in itertools.product(["vgg16", "resnet18", "mobilenet_v2"], [(224, None)]):
        backbone = Backbone(name, weights=None)
        heights = [backbone.split(stage)[0].out_shape(size)[1] for stage in backbone.stage_names]
        assert heights == sorted(heights, reverse=True)
