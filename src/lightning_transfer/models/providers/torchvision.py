"""The stages of torchvision's networks.

A family's function takes the whole network and names its stages, in order. What no stage holds (the classifier,
auxiliary classifiers) is thrown away. Stages carry the names of the paper or of torchvision's own code; a pooling
layer closes the stage before it.
"""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn
from torchvision import models

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.meta_init import meta_init

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


def _alexnet(network: nn.Module) -> Stages:
    rows: list[list[nn.Module]] = []
    for layer in _stage(network, "features"):
        if isinstance(layer, nn.Conv2d):
            rows.append([])
        rows[-1].append(layer)
    return {f"conv{number}": nn.Sequential(*row) for number, row in enumerate(rows, start=1)}


def _vgg(network: nn.Module) -> Stages:
    rows: list[list[nn.Module]] = [[]]
    for layer in _stage(network, "features"):
        rows[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            rows.append([])
    return {f"block{number}": _named(row) for number, row in enumerate(rows[:-1], start=1)}


def _resnet(network: nn.Module) -> Stages:
    layers = {f"layer{number}": _stage(network, f"layer{number}") for number in range(1, 5)}
    return {"stem": _pick(network, "conv1", "bn1", "relu", "maxpool"), **layers}


def _squeezenet(network: nn.Module) -> Stages:
    stages: Stages = {"stem": nn.Sequential()}
    for layer in _stage(network, "features"):
        if isinstance(layer, models.squeezenet.Fire):
            stages[f"fire{len(stages) + 1}"] = nn.Sequential()
        row = stages[next(reversed(stages))]
        row.add_module(*next(_named([layer]).named_children()))
    return stages


def _densenet(network: nn.Module) -> Stages:
    stages = {"stem": _pick(network, *(f"features.{part}0" for part in ("conv", "norm", "relu", "pool")))}
    for number in range(1, 5):
        after = f"transition{number}" if number < 4 else "norm5"
        stages[f"denseblock{number}"] = _pick(network, f"features.denseblock{number}", f"features.{after}")
    # torchvision applies it in forward(), as a function.
    stages["denseblock4"].add_module("relu", nn.ReLU())
    return stages


def _googlenet(network: nn.Module) -> Stages:
    return {
        "stem": _pick(network, "conv1", "maxpool1", "conv2", "conv3", "maxpool2"),
        "inception3": _pick(network, "inception3a", "inception3b", "maxpool3"),
        "inception4": _pick(network, *(f"inception4{letter}" for letter in "abcde"), "maxpool4"),
        "inception5": _pick(network, "inception5a", "inception5b"),
    }


def _inception(network: nn.Module) -> Stages:
    stem = ("1a_3x3", "2a_3x3", "2b_3x3"), ("3b_1x1", "4a_3x3")
    before, after = ([f"Conv2d_{name}" for name in names] for names in stem)
    return {
        "stem": _pick(network, *before, "maxpool1", *after, "maxpool2"),
        "mixed5": _pick(network, *(f"Mixed_5{letter}" for letter in "bcd")),
        "mixed6": _pick(network, *(f"Mixed_6{letter}" for letter in "abcde")),
        "mixed7": _pick(network, *(f"Mixed_7{letter}" for letter in "abc")),
    }


def _mobilenet(network: nn.Module) -> Stages:
    stem, *blocks, last = _stage(network, "features")
    grouped = itertools.groupby(blocks, key=lambda block: block.out_channels)
    return {
        "stem": nn.Sequential(stem),
        **{f"block{i}": nn.Sequential(*group) for i, (_, group) in enumerate(grouped, start=1)},
        "last_conv": nn.Sequential(last),
    }


def _efficientnet(network: nn.Module) -> Stages:
    stem, *blocks, last = _stage(network, "features")
    return {
        "stem": nn.Sequential(stem),
        **{f"block{i}": nn.Sequential(*block.children()) for i, block in enumerate(blocks, start=1)},
        "last_conv": nn.Sequential(last),
    }


def _mnasnet(network: nn.Module) -> Stages:
    layers = list(_stage(network, "layers"))
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Sequential))
    stacks = [layer for layer in layers if isinstance(layer, nn.Sequential)]
    return {
        "stem": _named(layers[:first]),
        **{f"block{i}": stack for i, stack in enumerate(stacks, start=1)},
        "last_conv": _named(layers[first + len(stacks) :]),
    }


def _regnet(network: nn.Module) -> Stages:
    blocks = {f"block{i}": _stage(network, f"trunk_output.block{i}") for i in range(1, 5)}
    return {"stem": _stage(network, "stem"), **blocks}


def _shufflenet(network: nn.Module) -> Stages:
    return {
        "stem": _pick(network, "conv1", "maxpool"),
        **{f"stage{number}": _stage(network, f"stage{number}") for number in (2, 3, 4)},
        "conv5": _stage(network, "conv5"),
    }


def _convnext(network: nn.Module) -> Stages:
    stem, first, *rest = _stage(network, "features")
    stages = {"stem": nn.Sequential(stem), "stage1": nn.Sequential(*first.children())}
    for number, (downsample, blocks) in enumerate(zip(rest[::2], rest[1::2], strict=True), start=2):
        stages[f"stage{number}"] = nn.Sequential(downsample, *blocks.children())
    return stages


# By the beginning of the network's name in torchvision.
FAMILIES: dict[str, Callable[[nn.Module], Stages]] = {
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
# Their pretrained weights were made for inputs in [-1, 1]; torchvision's `transform_input` translates.
SYMMETRIC_INPUT = ("googlenet", "inception_v3")


def network_names() -> list[str]:
    """The torchvision classification networks that can be a backbone, sorted."""
    return [name for name in models.list_models(module=models) if name.startswith(tuple(FAMILIES))]


def checked_name(name: str) -> str:
    """The name, if a backbone can be made of that network.

    Raises:
        BackboneError: It is unknown (lists the nearest names), or a transformer (lists what works).
    """
    known = network_names()
    if name in known:
        return name
    if name in models.list_models(module=models):
        raise BackboneError(
            f"{name} is built of attention, not of convolutional stages, and cannot be a backbone. "
            f"These can: {', '.join(known)}."
        )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    raise BackboneError(f"There is no network {name!r} in torchvision. Nearest: {', '.join(near)}.")


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, for images in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def normalisation(name: str, weights: models.WeightsEnum | None = None) -> Normalisation:
    """Return the normalisation that pretrained weights expect; None for the default weights.

    >>> normalisation("vgg16").mean
    (0.485, 0.456, 0.406)
    """
    if name in SYMMETRIC_INPUT:
        return Normalisation((0.5,) * 3, (0.5,) * 3)
    preset = (weights or models.get_model_weights(name)["DEFAULT"]).transforms()
    return Normalisation(tuple(preset.mean), tuple(preset.std))


def build_network(name: str) -> nn.Module:
    """The whole torchvision network with random weights, on the current default device."""
    initialise = {"init_weights": True} if name in SYMMETRIC_INPUT else {}
    network: nn.Module = models.get_model(name, weights=None, **initialise)
    return network


def stages_of(name: str, network: nn.Module) -> Stages:
    """The stages of a torchvision network, in order; they share its layers.

    >>> list(stages_of("resnet18", build_network("resnet18")))
    ['stem', 'layer1', 'layer2', 'layer3', 'layer4']
    """
    family = next(prefix for prefix in FAMILIES if name.startswith(prefix))
    return FAMILIES[family](network)


def drop_classifier(name: str, network: nn.Module) -> list[str]:
    """Remove the parts that no stage holds, and return their names ("fc", "aux1", …)."""
    kept = {id(module) for stage in stages_of(name, network).values() for module in stage.modules()}
    dropped = [
        part
        for part, module in network.named_children()
        if not any(id(inner) in kept for inner in module.modules())
    ]
    for part in dropped:
        delattr(network, part)
    return dropped


def build_empty_network(name: str) -> nn.Module:
    """The whole torchvision network without memory for its weights."""
    with meta_init():
        return build_network(name)
