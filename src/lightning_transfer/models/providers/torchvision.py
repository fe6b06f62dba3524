"""The stages of torchvision's networks.

A family's function takes the whole network and names its stages, in order. What no stage holds (the classifier,
auxiliary classifiers) is thrown away. Stages carry the names of the paper or of torchvision's own code; a pooling
layer closes the stage before it.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn
from torchvision import models

from lightning_transfer.errors import BackboneError, DownloadError
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.pooling import AveragePool
from lightning_transfer.models.providers.provider import NamedWeights, Preprocessing, Row
from lightning_transfer.models.weights import SUFFIXES, read_file
from lightning_transfer.utils.download import download

Stages = dict[str, nn.Sequential]
# The first digits of its sha256, in the name of each file that torchvision publishes; nobody publishes the others.
DIGEST = re.compile(r"-([0-9a-f]{8,64})\.pth$")
# DenseNet's published files have keys such as "denselayer1.norm.1.weight", for today's "norm1.weight".
OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
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


def build_empty_network(name: str) -> nn.Module:
    """The whole torchvision network without memory for its weights."""
    with meta_init():
        return build_network(name)


class TorchvisionProvider:
    """The networks of torchvision; see `lightning_transfer.models.providers.provider.Provider`."""

    def network_names(self) -> list[str]:
        """List the classification networks that can be a backbone, sorted."""
        return network_names()

    def check_name(self, name: str) -> None:
        """Check that a backbone can be made of a network."""
        checked_name(name)

    def build(self, name: str) -> nn.Module:
        """Make the whole network with random weights."""
        return build_network(name)

    def row(self, name: str, network: nn.Module) -> Row:
        """Cut a network into stages."""
        return Row(stages_of(name, network), AveragePool())

    def preprocessing(self, name: str) -> Preprocessing:
        """Return how images are prepared for the network's default weights."""
        return _preprocessing(name, models.get_model_weights(name)["DEFAULT"])

    def find_weights(self, name: str, weights: str) -> NamedWeights:
        """Find weights by torchvision's name: "DEFAULT", "IMAGENET1K_V1", …; they are fetched when read."""
        known = models.get_model_weights(name)
        if weights in known.__members__:
            found = known[weights]
            return NamedWeights(str(found), lambda: read_file(_fetch(found)), _preprocessing(name, found))
        near = difflib.get_close_matches(weights, known.__members__, n=1, cutoff=0.4)
        raise BackboneError(
            f"{name} has no weights {weights!r}{f' (did you mean {near[0]}?)' if near else ''}: wanted one of "
            f"{', '.join(known.__members__)}, bundled, the path of a {', '.join(SUFFIXES)} file, or None (null) "
            "for random numbers."
        )

    def adapt(self, name: str, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give old DenseNet files today's keys."""
        return {OLD_DENSENET_KEY.sub(r"\1\2", key): value for key, value in state.items()}


def _preprocessing(name: str, weights: models.WeightsEnum) -> Preprocessing:
    preset = weights.transforms()
    size, interpolation = int(preset.crop_size[0]), preset.interpolation.value
    crop = size / int(preset.resize_size[0])
    if name in SYMMETRIC_INPUT:
        return Preprocessing((0.5,) * 3, (0.5,) * 3, size, interpolation, crop)
    return Preprocessing(tuple(preset.mean), tuple(preset.std), size, interpolation, crop)


def _fetch(weights: models.WeightsEnum) -> Path:
    """The file of a torchvision weights name, where torchvision itself keeps it.

    The hash of the file is checked each time.

    Raises:
        DownloadError: The weights are not at hand and cannot be fetched, or are not those that they should be.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(urlsplit(weights.url).path).name
    digest = DIGEST.search(path.name)
    if digest is None:
        raise DownloadError(
            f"{weights.url} has no hash in its name, by which it could be checked: get it by other means, and "
            "pass its path as weights."
        )
    remedy = (
        "Without a network, bring that file here by other means and pass its path as weights, or put it in "
        f"{path.parent}."
    )
    return download(weights.url, path, digest[1], remedy)


PROVIDER = TorchvisionProvider()
