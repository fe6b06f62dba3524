"""torchvision's convolutional networks as rows of stages.

A family's function takes the whole network and names its stages, in order. What is neither in a stage nor in the
pooling (the classifier, auxiliary classifiers) is thrown away. Stages carry the names of the paper or of
torchvision's own code; a pooling layer closes the stage before it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable

from torch import nn
from torchvision import models

from lightning_transfer.models.pooling import AveragePool, Flatten
from lightning_transfer.models.providers.provider import Row

Stages = dict[str, nn.Sequential]
LAYER_NAMES = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu", nn.MaxPool2d: "pool"}


def _named(layers: Iterable[nn.Module]) -> nn.Sequential:
    """Name layers by kind and number: conv1, relu1, conv2, …; a single pool has no number.

    >>> [name for name, _ in _named([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.MaxPool2d(2)]).named_children()]
    ['conv1', 'conv2', 'pool']
    """
    layers = list(layers)
    kinds = [LAYER_NAMES.get(type(layer), type(layer).__name__.lower()) for layer in layers]
    total, seen = Counter(kinds), Counter[str]()
    stage = nn.Sequential()
    for kind, layer in zip(kinds, layers, strict=True):
        seen[kind] += 1
        # Convolutions and what goes with them are always numbered, as in the papers: block1_conv1.
        plain = total[kind] == 1 and kind not in ("conv", "bn", "relu")
        stage.add_module(kind if plain else f"{kind}{seen[kind]}", layer)
    return stage


def _pick(network: nn.Module, *paths: str) -> nn.Sequential:
    """The named parts of a network in a row, under the last component of their names."""
    stage = nn.Sequential()
    for path in paths:
        stage.add_module(path.rpartition(".")[2], network.get_submodule(path))
    return stage


def _stage(network: nn.Module, path: str) -> nn.Sequential:
    stage = network.get_submodule(path)
    assert isinstance(stage, nn.Sequential)
    return stage


def _flattened(network: nn.Module) -> nn.Sequential:
    """Each place's features, pooled to the number of places that the classifier wants."""
    return nn.Sequential(network.get_submodule("avgpool"), Flatten())


def _alexnet(network: nn.Module) -> Row:
    rows: list[list[nn.Module]] = []
    for layer in _stage(network, "features"):
        if isinstance(layer, nn.Conv2d):
            rows.append([])
        rows[-1].append(layer)
    stages = {f"conv{number}": nn.Sequential(*row) for number, row in enumerate(rows, start=1)}
    return Row(stages, _flattened(network))


def _vgg(network: nn.Module) -> Row:
    rows: list[list[nn.Module]] = [[]]
    for layer in _stage(network, "features"):
        rows[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            rows.append([])
    stages = {f"block{number}": _named(row) for number, row in enumerate(rows[:-1], start=1)}
    return Row(stages, _flattened(network))


def _resnet(network: nn.Module) -> Row:
    layers = {f"layer{number}": _stage(network, f"layer{number}") for number in range(1, 5)}
    return Row({"stem": _pick(network, "conv1", "bn1", "relu", "maxpool"), **layers}, AveragePool())


def _squeezenet(network: nn.Module) -> Row:
    stages: Stages = {"stem": nn.Sequential()}
    for layer in _stage(network, "features"):
        if isinstance(layer, models.squeezenet.Fire):
            stages[f"fire{len(stages) + 1}"] = nn.Sequential()
        row = stages[next(reversed(stages))]
        row.add_module(*next(_named([layer]).named_children()))
    # There is no linear layer whose input could be taken: the classifier is a convolution over the map, and the
    # mean of its output the logits.
    return Row(stages, AveragePool())


def _densenet(network: nn.Module) -> Row:
    stages = {"stem": _pick(network, *(f"features.{part}0" for part in ("conv", "norm", "relu", "pool")))}
    for number in range(1, 5):
        after = f"transition{number}" if number < 4 else "norm5"
        stages[f"denseblock{number}"] = _pick(network, f"features.denseblock{number}", f"features.{after}")
    # torchvision applies it in forward(), as a function.
    stages["denseblock4"].add_module("relu", nn.ReLU())
    return Row(stages, AveragePool())


def _googlenet(network: nn.Module) -> Row:
    stages = {
        "stem": _pick(network, "conv1", "maxpool1", "conv2", "conv3", "maxpool2"),
        "inception3": _pick(network, "inception3a", "inception3b", "maxpool3"),
        "inception4": _pick(network, *(f"inception4{letter}" for letter in "abcde"), "maxpool4"),
        "inception5": _pick(network, "inception5a", "inception5b"),
    }
    return Row(stages, AveragePool())


def _inception(network: nn.Module) -> Row:
    stem = ("1a_3x3", "2a_3x3", "2b_3x3"), ("3b_1x1", "4a_3x3")
    before, after = ([f"Conv2d_{name}" for name in names] for names in stem)
    stages = {
        "stem": _pick(network, *before, "maxpool1", *after, "maxpool2"),
        "mixed5": _pick(network, *(f"Mixed_5{letter}" for letter in "bcd")),
        "mixed6": _pick(network, *(f"Mixed_6{letter}" for letter in "abcde")),
        "mixed7": _pick(network, *(f"Mixed_7{letter}" for letter in "abc")),
    }
    return Row(stages, AveragePool())


def _mobilenet(network: nn.Module) -> Row:
    stem, *blocks, last = _stage(network, "features")
    grouped = itertools.groupby(blocks, key=lambda block: block.out_channels)
    stages = {
        "stem": nn.Sequential(stem),
        **{f"block{i}": nn.Sequential(*group) for i, (_, group) in enumerate(grouped, start=1)},
        "last_conv": nn.Sequential(last),
    }
    return Row(stages, AveragePool())


def _efficientnet(network: nn.Module) -> Row:
    stem, *blocks, last = _stage(network, "features")
    stages = {
        "stem": nn.Sequential(stem),
        **{f"block{i}": nn.Sequential(*block.children()) for i, block in enumerate(blocks, start=1)},
        "last_conv": nn.Sequential(last),
    }
    return Row(stages, AveragePool())


def _mnasnet(network: nn.Module) -> Row:
    layers = list(_stage(network, "layers"))
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Sequential))
    stacks = [layer for layer in layers if isinstance(layer, nn.Sequential)]
    stages = {
        "stem": _named(layers[:first]),
        **{f"block{i}": stack for i, stack in enumerate(stacks, start=1)},
        "last_conv": _named(layers[first + len(stacks) :]),
    }
    return Row(stages, AveragePool())


def _regnet(network: nn.Module) -> Row:
    blocks = {f"block{i}": _stage(network, f"trunk_output.block{i}") for i in range(1, 5)}
    return Row({"stem": _stage(network, "stem"), **blocks}, AveragePool())


def _shufflenet(network: nn.Module) -> Row:
    stages = {
        "stem": _pick(network, "conv1", "maxpool"),
        **{f"stage{number}": _stage(network, f"stage{number}") for number in (2, 3, 4)},
        "conv5": _stage(network, "conv5"),
    }
    return Row(stages, AveragePool())


def _convnext(network: nn.Module) -> Row:
    stem, first, *rest = _stage(network, "features")
    stages = {"stem": nn.Sequential(stem), "stage1": nn.Sequential(*first.children())}
    for number, (downsample, blocks) in enumerate(zip(rest[::2], rest[1::2], strict=True), start=2):
        stages[f"stage{number}"] = nn.Sequential(downsample, *blocks.children())
    norm = network.get_submodule("classifier.0")
    return Row(stages, nn.Sequential(network.get_submodule("avgpool"), norm, Flatten()))


# By the beginning of the network's name.
CONVOLUTIONAL: dict[str, Callable[[nn.Module], Row]] = {
    "alexnet": _alexnet,
    "convnext_": _convnext,
    "densenet": _densenet,
    "efficientnet_": _efficientnet,
    "googlenet": _googlenet,
    "inception_": _inception,
    "mnasnet": _mnasnet,
    "mobilenet_": _mobilenet,
    "regnet_": _regnet,
    "resnet": _resnet,
    "resnext": _resnet,
    "shufflenet_": _shufflenet,
    "squeezenet": _squeezenet,
    "vgg": _vgg,
    "wide_resnet": _resnet,
}
