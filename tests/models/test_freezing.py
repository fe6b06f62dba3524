"""Frozen means frozen: no gradients, no batch statistics, no graph; and what others froze stays so."""

import copy
import pickle

import pytest
import torch
from torch import nn

import tiny_networks  # noqa: F401
from lightning_transfer import Backbone
from lightning_transfer.models.freezing import freeze, frozen_parameters, is_trainable, parameter_groups, unfreeze


@pytest.fixture
def network():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), inner)


@pytest.fixture
def images():
    return torch.rand(8, 3, 10, 10, generator=torch.Generator().manual_seed(1)) * 3 + 5


def state(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def changed(network, before):
    return {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}


def test_a_frozen_network_gives_its_eval_outputs_and_no_pass_changes_a_buffer(network, images):
    with torch.no_grad():
        expected = network.eval()(images)
    network.train()
    freeze(network)
    before = state(network)
    outputs = [network(images) for _ in range(3)]
    assert changed(network, before) == set()
    assert all(torch.equal(output, expected) for output in outputs)
    assert not any(module.training for module in network.modules())


def test_no_graph_goes_through_a_frozen_network(network, images):
    freeze(network)
    features = network(images)
    assert not features.requires_grad
    assert features.grad_fn is None
    head = nn.Conv2d(4, 2, 1)
    head(features).sum().backward()
    assert head.weight.grad is not None
    assert all(p.grad is None for p in network.parameters())


def test_unfreezing_reverses_it(network, images):
    freeze(network)
    unfreeze(network)
    assert all(module.training for module in network.modules())
    before = state(network)
    # Squared: behind BatchNorm the mean itself has no slope.
    network(images).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert changed(network, before) == {key for key in before if key.endswith(statistics)}


def test_freezing_a_part_leaves_the_rest_alone(network, images):
    freeze(network[3])
    assert network[1].training
    assert network[0].weight.requires_grad
    before = state(network)
    network(images).square().mean().backward()
    assert network[0].weight.grad is not None
    assert changed(network, before) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_both_can_be_repeated(network):
    for _ in range(2):
        freeze(network)
    assert not any(p.requires_grad for p in network.parameters())
    for _ in range(2):
        unfreeze(network)
    assert all(p.requires_grad for p in network.parameters())


def constant(network):
    """Parameters that do not train, and layers in eval mode, by name."""
    parameters = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return parameters, {name for name, layer in network.named_modules() if not layer.training}


def test_unfreezing_undoes_what_freezing_did_and_no_more(network):
    network[0].bias.requires_grad_(False)
    network[3][1].eval()
    before = constant(network)
    assert before == ({"0.bias"}, {"3.1"})
    unfreeze(network)  # never frozen
    assert constant(network) == before
    for _ in range(2):
        freeze(network)
    for _ in range(2):
        unfreeze(network)
    assert constant(network) == before


def test_parts_are_found_in_containers_made_for_the_moment(network):
    for _ in range(2):
        freeze(network, [nn.Sequential(network[0], network[1])])
        assert constant(network) == ({"0.weight", "0.bias", "1.weight", "1.bias"}, {"0", "1"})
    assert len(frozen_parameters(network)) == 4
    freeze(network, [network[3]], modes=False)
    unfreeze(network)
    assert constant(network) == (set(), set())
    assert frozen_parameters(network) == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_remembers_too_and_a_state_dict_does_not(network, copied):
    keys = list(network.state_dict())
    network[0].bias.requires_grad_(False)
    freeze(network)
    other = copied(network)
    unfreeze(other)
    assert constant(other) == ({"0.bias"}, set())
    assert is_trainable(network[3]) is False, "the original is as it was"
    assert list(network.state_dict()) == keys


def test_layers_that_were_replaced_are_found_by_name(network):
    """As Lightning's sync_batchnorm does, after set-up."""
    freeze(network, [network[1]])
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert constant(network) == ({"1.weight", "1.bias"}, {"1"})
    unfreeze(network)
    assert constant(network) == (set(), set())


def test_every_parameter_is_in_one_group_of_its_stage(network):
    stages = {"body": network[:3], "block": network[3], "head": nn.Linear(4, 2)}
    groups = parameter_groups(stages, lr=1.0, layer_decay=0.1, weight_decay=0.01)
    assert [group["name"] for group in groups] == [
        "body",
        "body.no_decay",
        "block",
        "block.no_decay",
        "head",
        "head.no_decay",
    ]
    for name, module in stages.items():
        own = [group for group in groups if group["name"].split(".")[0] == name]
        expected = sorted(id(parameter) for parameter in module.parameters())
        assert sorted(id(parameter) for group in own for parameter in group["params"]) == expected
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.01, 0.1, 0.1, 1.0, 1.0])


@pytest.mark.parametrize("name", ["vgg16_bn", "resnet18", "convnext_tiny", "mobilenet_v3_small"])
def test_biases_and_norms_are_not_decayed(name):
    backbone = Backbone(name, weights=None)
    groups = parameter_groups(backbone.stages, lr=1.0, weight_decay=0.01)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    for module in backbone.modules():
        for kind, parameter in module.named_parameters(recurse=False):
            matrix = isinstance(module, nn.Conv2d | nn.Linear) and kind == "weight"
            scale = kind == "layer_scale"  # ConvNeXt's own, (C, 1, 1)
            assert (id(parameter) in decayed) == (matrix or scale), (type(module), kind)


def test_whether_a_module_trains(network):
    assert is_trainable(network)
    freeze(network[3])
    assert is_trainable(network)
    assert not is_trainable(network[3])
    assert not is_trainable(nn.ReLU())


def test_layer_decay_of_a_vit_is_timms():
    """By its rule: 0 the patches, 1 … n the blocks, and the last norm with the head, which has the whole rate."""
    stages = {**Backbone("small/vit_xs", None).stages, "head": nn.Linear(16, 2)}
    groups = parameter_groups(stages, lr=1.0, layer_decay=0.7, weight_decay=0.01)
    rates = {group["name"].removesuffix(".no_decay"): group["lr"] for group in groups}
    numbers = {"patch_embed": 0, **{f"block{number}": number for number in range(1, 5)}, "norm": 5, "head": 5}
    assert rates == pytest.approx({name: 0.7 ** (5 - number) for name, number in numbers.items()})
