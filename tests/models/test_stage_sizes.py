"""Sizes against torchvision's own layers and a count by hand."""

import pytest
import torch
from torch import nn
from torchvision import models

from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError
from lightning_transfer.models.stage_sizes import stage_sizes


def test_vgg11_is_counted_as_by_hand():
    expected, shape, parameters, operations = [], None, 0, 0
    with torch.device("meta"):
        network, features = models.vgg11(weights=None).features, torch.empty(1, 3, 64, 64)
    for layer in network:
        features = layer(features)
        shape = tuple(features.shape[1:])
        if isinstance(layer, nn.Conv2d):
            parameters += layer.weight.numel() + layer.bias.numel()
            operations += 2 * layer.weight.numel() * shape[1] * shape[2]
        if isinstance(layer, nn.MaxPool2d):
            expected.append((shape, parameters, operations))
            parameters = operations = 0
    backbone = Backbone("vgg11", weights=None)
    found = stage_sizes(backbone, 64)
    assert [(size.shape, size.parameters, size.operations) for size in found] == expected
    assert [size.stage for size in found] == list(backbone.stage_names)


def test_the_backbone_is_left_as_it_was():
    backbone = Backbone("mobilenet_v3_small", weights=None)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    stage_sizes(backbone, 64)
    assert backbone.training
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_images_that_are_too_small_are_refused():
    with pytest.raises(BackboneError, match="8 × 8 are too small for squeezenet1_1"):
        stage_sizes(Backbone("squeezenet1_1", weights=None), 8)
