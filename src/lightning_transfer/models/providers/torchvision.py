"""torchvision's classification networks: their stages, their weights, and how images are prepared for these."""

from __future__ import annotations

import difflib
import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn
from torchvision import models

from lightning_transfer.errors import BackboneError, DownloadError
from lightning_transfer.models.providers.provider import NamedWeights, Preprocessing, Provider, Row
from lightning_transfer.models.providers.torchvision_convolutional import CONVOLUTIONAL
from lightning_transfer.models.providers.torchvision_transformers import (
    TRANSFORMERS,
    any_partition,
    fit_positions,
)
from lightning_transfer.models.weights import SUFFIXES, read_file
from lightning_transfer.utils.download import download

# By the beginning of the network's name in torchvision.
FAMILIES = {**CONVOLUTIONAL, **TRANSFORMERS}
# Their pretrained weights were made for inputs in [-1, 1]; torchvision's `transform_input` translates.
SYMMETRIC_INPUT = ("googlenet", "inception_v3")
# The first digits of its sha256, in the name of each file that torchvision publishes; nobody publishes the others.
DIGEST = re.compile(r"-([0-9a-f]{8,64})\.pth$")
# Keys of published files, and what they are called today: "denselayer1.norm.1.weight" of DenseNet, and
# "mlp.linear_1.weight" of the vision transformers.
OLD_KEYS = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)


class TorchvisionProvider(Provider):
    """The networks of torchvision; see `lightning_transfer.models.providers.provider.Provider`.

    >>> provider = TorchvisionProvider()
    >>> list(provider.row("resnet18", provider.build("resnet18")).stages)
    ['stem', 'layer1', 'layer2', 'layer3', 'layer4']
    """

    def network_names(self) -> list[str]:
        """List the classification networks that can be a backbone, sorted."""
        return [name for name in models.list_models(module=models) if name.startswith(tuple(FAMILIES))]

    def check_name(self, name: str) -> None:
        """Check that a backbone can be made of a network."""
        known = self.network_names()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
            raise BackboneError(f"There is no network {name!r} in torchvision. Nearest: {', '.join(near)}.")

    def build(self, name: str) -> nn.Module:
        """Make the whole network with random weights."""
        initialise = {"init_weights": True} if name in SYMMETRIC_INPUT else {}
        network: nn.Module = models.get_model(name, weights=None, **initialise)
        return any_partition(network)

    def row(self, name: str, network: nn.Module) -> Row:
        """Cut a network into stages."""
        family = next(prefix for prefix in FAMILIES if name.startswith(prefix))
        return FAMILIES[family](network)

    def preprocessing(self, name: str) -> Preprocessing:
        """Return how images are prepared for the network's default weights."""
        return _preprocessing(name, models.get_model_weights(name)["DEFAULT"])

    def find_weights(self, name: str, weights: str) -> NamedWeights:
        """Find weights by torchvision's name: "DEFAULT", "IMAGENET1K_V1", …; they are fetched when read."""
        known = models.get_model_weights(name)
        if weights in known.__members__:
            found = known[weights]
            return NamedWeights(str(found), lambda: read_weights(found), _preprocessing(name, found))
        near = difflib.get_close_matches(weights, known.__members__, n=1, cutoff=0.4)
        raise BackboneError(
            f"{name} has no weights {weights!r}{f' (did you mean {near[0]}?)' if near else ''}: wanted one of "
            f"{', '.join(known.__members__)}, bundled, the path of a {', '.join(SUFFIXES)} file, or None (null) "
            "for random numbers."
        )

    def adapt(self, name: str, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the keys of old files today's names, and a transformer room for the file's position embeddings."""
        for old, new in OLD_KEYS:
            state = {old.sub(new, key): value for key, value in state.items()}
        fit_positions(network, state)
        return state


def read_weights(weights: models.WeightsEnum) -> dict[str, Tensor]:
    """Read the file of a torchvision weights name; it is downloaded once, to `$TORCH_HOME`.

    Raises:
        DownloadError: The weights are not at hand and cannot be fetched, or are not those that they should be.
    """
    return read_file(_fetch(weights))


def _preprocessing(name: str, weights: models.WeightsEnum) -> Preprocessing:
    preset = weights.transforms()
    size, interpolation = int(preset.crop_size[0]), preset.interpolation.value
    crop = size / int(preset.resize_size[0])
    if name in SYMMETRIC_INPUT:
        return Preprocessing((0.5,) * 3, (0.5,) * 3, size, interpolation, crop)
    return Preprocessing(tuple(preset.mean), tuple(preset.std), size, interpolation, crop)


def _fetch(weights: models.WeightsEnum) -> Path:
    """The file of a torchvision weights name, where torchvision itself keeps it; its hash is checked each time."""
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
