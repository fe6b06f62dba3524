"""What a provider of networks answers, and which provider a name belongs to.

Shapes: B batch, C channels, h w feature map, T tokens, D features.
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from torch import Tensor, nn

from lightning_transfer.errors import BackboneError, ProviderError

Stages = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared for a network's weights.

    Attributes:
        mean: Of each channel, for images in [0, 1].
        std: Standard deviation of each channel.
        size: H and W that the weights were trained at, in pixels.
        interpolation: "bilinear" or "bicubic", by which images are resized.
        crop: Share of the resized image's side that is cut out.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 224
    interpolation: str = "bilinear"
    crop: float = 1.0


@dataclass(frozen=True)
class Row:
    """A network as a row of stages, whose layers it shares.

    Attributes:
        stages: By name, from the input on. Each takes what the one before it gives: the first normalised images
            (B, 3, H, W), the others a map (B, C, h, w) or tokens (B, T, D).
        pool: All that the network does between its last stage and its classifier's first linear layer: takes the
            last stage's output, gives (B, D). Its parameters, if any, are pretrained ones, too.
        prefix_tokens: How many tokens come before those of the patches; the first is the class token, if any.
        multiple: H and W must be a multiple of it; 1 where any size will do.
        fixed_size: The only H and W that the network takes; None where others fit.
    """

    stages: Stages
    pool: nn.Module
    prefix_tokens: int = 0
    multiple: int = 1
    fixed_size: int | None = None


@dataclass(frozen=True)
class NamedWeights:
    """Pretrained weights that a provider knows by name; they are read, and fetched, when `read` is called."""

    origin: str
    read: Callable[[], dict[str, Tensor]]
    preprocessing: Preprocessing


class Provider(Protocol):
    """Where networks come from; names are those of the provider itself, without its prefix.

    One of your own has `network_names`, `build`, `row` and `preprocessing`, and may have the others.
    """

    @abstractmethod
    def network_names(self) -> list[str]:
        """List the networks that can be a backbone, sorted."""

    @abstractmethod
    def build(self, name: str) -> nn.Module:
        """Make the whole network with random weights."""

    @abstractmethod
    def row(self, name: str, network: nn.Module) -> Row:
        """Cut a network into stages."""

    @abstractmethod
    def preprocessing(self, name: str) -> Preprocessing:
        """Return how images are prepared for the network's default weights."""

    def check_name(self, name: str) -> None:
        """Check that a backbone can be made of a network.

        Raises:
            BackboneError: It cannot, or there is no such network; names the nearest.
        """
        known = self.network_names()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
            raise BackboneError(
                f"There is no network {name!r} in {type(self).__name__}. Nearest: {', '.join(near)}."
            )

    def find_weights(self, name: str, weights: str) -> NamedWeights:
        """Find weights by the provider's name for them; "DEFAULT" for the best.

        Raises:
            BackboneError: There are none of that name; lists those there are.
        """
        raise BackboneError(
            f"{name} has no weights {weights!r} in {type(self).__name__}: pass the path of a file, or None (null) "
            "for random numbers."
        )

    def adapt(self, name: str, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename keys of an older or another form of a file's weights; others stay as they are.

        Args:
            name: The network's.
            network: On the meta device; may be changed where it has to have another shape for these weights.
            state: As read.
        """
        return state


# By the prefix of a name, with the slash: "timm/vit_tiny_patch16_224". Imported when a name asks for them.
BUILT_IN = {"": "torchvision", "timm/": "timm"}
_registered: dict[str, Provider] = {}


def register_provider(prefix: str, provider: Provider) -> None:
    """Make a provider's networks known as "<prefix>/<name>".

    Raises:
        BackboneError: The prefix is empty, has a slash, or is a built-in provider's.
    """
    if not prefix or "/" in prefix or f"{prefix}/" in BUILT_IN:
        raise BackboneError(f"prefix={prefix!r}: wanted a name without a slash, other than timm.")
    _registered[f"{prefix}/"] = provider


def provider_of(name: str) -> tuple[Provider, str]:
    """Return the provider of a network, and the provider's own name for it.

    Raises:
        ProviderError: No provider has that prefix.

    >>> provider, own_name = provider_of("vgg16")
    >>> type(provider).__name__, own_name
    ('TorchvisionProvider', 'vgg16')
    """
    prefix, slash, own = name.rpartition("/") if name.count("/") == 1 else ("", "", name)
    key = prefix + slash
    if key in _registered:
        return _registered[key], own
    if key not in BUILT_IN:
        known = ", ".join(prefix for prefix in (*BUILT_IN, *_registered) if prefix)
        raise ProviderError(
            f"There is no provider {key!r} for {name!r}: wanted a name of torchvision, or one after {known}. "
            "One of your own has to be made known first: register_provider."
        )
    module = import_module(f"lightning_transfer.models.providers.{BUILT_IN[key]}")
    return cast(Provider, module.PROVIDER), own
