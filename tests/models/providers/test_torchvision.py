"""Rows of stages against torchvision's own, untouched networks: each classification network that it has."""

import pytest
import torch
from torch import nn
from torchvision import models

from lightning_transfer import Backbone
from lightning_transfer.models.freezing import freeze
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.providers import torchvision
from lightning_transfer.models.providers.torchvision import PROVIDER

MANY = 60_000_000  # parameters, from which on a network is tested nightly
IMAGENET = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
HALF = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)
HALVES = ("efficientnet_v2_l", "googlenet", "inception_v3")


def size_of(name):
    """Of the images: a few patches or windows a side."""
    return 224 if name == "maxvit_t" else 84 if name == "vit_h_14" else 96


def empty(name):
    """The untouched network without numbers; a ViT for small images, which it wants to know at once."""
    with meta_init():
        sized = {"image_size": size_of(name)} if name.startswith("vit_") else {}
        initialise = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        return models.get_model(name, weights=None, **sized, **initialise)


def lively(name):
    """The untouched network with numbers that make every layer matter, BatchNorm's statistics those of images."""
    network = empty(name).eval()
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for key, value in state.items():
        last = key.rpartition(".")[2]
        if not value.is_floating_point():
            state[key] = torch.zeros(value.shape, dtype=value.dtype) if value.is_meta else value
            continue
        low, high = (0.5, 1.0) if last in ("weight", "running_var", "logit_scale") else (-0.2, 0.3)
        if value.ndim > 1 and last == "weight":
            high = (6 / max(1, value[0].numel())) ** 0.5
            low = -high
        state[key] = torch.empty(value.shape).uniform_(low, high, generator=generator)
    network.load_state_dict(state, assign=True)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = None
    mean, std = normalisation(name)
    with torch.no_grad():
        network((random_images(name, 4) / 255 - mean) / std)
    for norm in norms:
        norm.eval()
    return network


def random_images(name, number):
    """(B, 3, H, W) uint8, of different brightness and contrast."""
    generator, size = torch.Generator().manual_seed(1), size_of(name)
    lows = torch.randint(0, 100, (number, 3, 1, 1), generator=generator)
    noise = torch.rand((number, 3, size, size), generator=generator)
    return (lows + noise * torch.linspace(50, 150, number).view(-1, 1, 1, 1)).to(torch.uint8)


def normalisation(name):
    """What torchvision's own preset for the network's weights does after resizing; stated here by hand."""
    return HALF if name in HALVES else IMAGENET


def taken(network, images):
    """What a network gives the first layer of its classifier."""
    seen = []
    hook = first_layer(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    hook.remove()
    return seen[0]


def first_layer(network):
    """The first linear layer of the classifier, by torchvision's own names; SqueezeNet's is a convolution."""
    classifier = next(
        getattr(network, part) for part in ("classifier", "heads", "head", "fc") if hasattr(network, part)
    )
    return next(layer for layer in classifier.modules() if isinstance(layer, nn.Linear | nn.Conv2d))


def test_every_network_of_torchvision_is_known():
    assert PROVIDER.network_names() == sorted(models.list_models(module=models))
    assert len(PROVIDER.network_names()) >= 80


def large_ones_nightly():
    sizes = {name: sum(p.numel() for p in empty(name).parameters()) for name in PROVIDER.network_names()}
    return [pytest.param(name, marks=pytest.mark.nightly) if size > MANY else name for name, size in sizes.items()]


@pytest.mark.parametrize("name", large_ones_nightly())
def test_backbone_and_native_pool_give_what_the_classifier_gets(name, monkeypatch):
    network = lively(name)
    monkeypatch.setattr(torchvision, "read_weights", lambda _: network.state_dict())
    backbone = Backbone(name, weights="DEFAULT").eval()
    images = random_images(name, 2)
    mean, std = normalisation(name)
    with torch.no_grad():
        normalised = backbone.normalise(images)
        torch.testing.assert_close(normalised, (images / 255 - mean) / std, rtol=1e-5, atol=1e-5)
        # Both in the same layout, as others round differently.
        expected = taken(network.to(memory_format=torch.channels_last), normalised)
        features = backbone(images)
        if name.startswith("squeezenet"):  # a convolution over the map
            torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
            expected = expected.mean((2, 3))
        found = backbone.native_pool()(features)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
        assert expected.std(dim=0).max() > 0.01 * expected.abs().max(), "both images are alike to this network"
        assert features.shape[1:] == backbone.out_shape(size_of(name))
        names = backbone.stage_names
        for cut in names if len(names) <= 6 else (names[0], names[1], names[len(names) // 2], names[-1]):
            prefix, suffix = backbone.split(cut)
            assert torch.equal(suffix(prefix(images)), features), cut

    for stage in names[:-2]:
        freeze(backbone.stages[stage])
    backbone(images).sum().backward()
    reached = {stage for stage in names if any(p.grad is not None for p in backbone.stages[stage].parameters())}
    assert reached == set(names[-2:])
    assert all(p.grad is not None for stage in names[-2:] for p in backbone.stages[stage].parameters())


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
        "vit_b_16": f"patch_embed {' '.join(f'block{number}' for number in range(1, 13))} norm",
        "vit_l_32": f"patch_embed {' '.join(f'block{number}' for number in range(1, 25))} norm",
        "swin_t": "stem stage1 stage2 stage3 stage4 norm",
        "swin_v2_b": "stem stage1 stage2 stage3 stage4 norm",
        "maxvit_t": "stem block1 block2 block3 block4",
    }
    for name, stages in expected.items():
        assert tuple(PROVIDER.row(name, empty(name)).stages) == tuple(stages.split())
