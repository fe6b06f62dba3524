"""The networks of timm (https://github.com/huggingface/pytorch-image-models), as rows of stages."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from lightning_transfer.errors import BackboneError, ExtraError
from lightning_transfer.models.providers.module_chain import Chain, Plan, find_chain, make_plan
from lightning_transfer.models.providers.provider import NamedWeights, Preprocessing, Row
from lightning_transfer.models.providers.timm_stages import (
    has_learned_rope,
    make_pool,
    make_stages,
    pool_parts,
)
from lightning_transfer.models.providers.timm_weights import adapt_state, config_of, find_tag, preprocessing_of

# What makes the networks of a family, by timm's own module, take images of other sizes than the weights' own.
ANY_SIZE = {
    "deit": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
    "vision_transformer": {"dynamic_img_size": True},
    "vision_transformer_hybrid": {"dynamic_img_size": True},
    "vitamin": {"dynamic_img_size": True},
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
    "swin_transformer_v2_cr": {"strict_img_size": False},
}
# At most this share of the parameters may lie before the first block, for a row of stages to be one.
LARGEST_FIRST_STAGE = 0.5
INSTEAD = "timm/convnext_tiny, timm/efficientnet_b0 or timm/vit_small_patch16_224"


class TimmProvider:
    """The networks of timm; see `lightning_transfer.models.providers.provider.Provider`.

    Names are timm's: "NAME", or "NAME.TAG" with the tag of pretrained weights.
    """

    def network_names(self) -> list[str]:
        """List timm's networks; whether one is a row of stages is known when it is built."""
        names: list[str] = _timm().list_models()
        return names

    def check_name(self, name: str) -> None:
        """Check that a backbone can be made of a network."""
        timm = _timm()
        architecture, _, tag = name.partition(".")
        if not timm.is_model(architecture):
            near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
            nearest = f"Nearest: {', '.join(near)}." if near else "timm.list_models() lists those there are."
            raise BackboneError(f"There is no network {architecture!r} in timm. {nearest}")
        try:
            config_of(name)
        except RuntimeError:
            find_tag(architecture, tag)  # raises, too, and lists the tags
            raise
        _cut(name)

    def build(self, name: str) -> nn.Module:
        """Make the whole network with random weights."""
        network: nn.Module = _timm().create_model(name, pretrained=False, **_any_size(name))
        return network

    def row(self, name: str, network: nn.Module) -> Row:
        """Cut a network into stages."""
        cut = _cut(name)
        return Row(
            make_stages(network, cut.plan, cut.pool_parts),
            make_pool(network, cut.pool_parts),
            prefix_tokens=cut.prefix_tokens,
            multiple=cut.multiple,
            fixed_size=cut.fixed_size,
        )

    def preprocessing(self, name: str) -> Preprocessing:
        """Return how images are prepared for the weights of the name's tag, or the default ones."""
        return preprocessing_of(config_of(name))

    def find_weights(self, name: str, weights: str) -> NamedWeights:
        """Find weights by their tag; "DEFAULT" for the name's own, or the network's default."""
        return find_tag(name, weights)

    def adapt(self, name: str, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapt weights of another form or image size, as timm does when it loads them."""
        return adapt_state(_family(name), network, state)


class Cut:
    """How a network is cut into stages, and which images it takes; found on the meta device, without weights.

    Args:
        name: "NAME" or "NAME.TAG".

    Raises:
        BackboneError: The network is no row of stages.
    """

    def __init__(self, name: str) -> None:
        with torch.device("meta"):
            network: Any = _timm().create_model(name, pretrained=False, **_any_size(name)).eval()
        config = config_of(name)
        self.size = min(config.input_size[1:])
        chain = find_chain(network, self._images(self.size))
        self.plan = _plan(name, network, chain)
        with torch.no_grad():
            features = network.forward_features(self._images(self.size))
        self.pool_parts = pool_parts(network, features)
        self.prefix_tokens = getattr(network, "num_prefix_tokens", 0) if features.ndim == 3 else 0
        self.multiple, self.fixed_size = 1, None
        if config.fixed_input_size and not _any_size(name):
            self.fixed_size = self.size
        elif _any_size(name):
            self.multiple = network.patch_embed.feat_ratio()
        else:
            self._try_sizes(network)

    def _images(self, size: int) -> Tensor:
        return torch.empty((1, 3, size, size), device="meta")

    def _try_sizes(self, network: Any) -> None:
        """Find which sizes a network takes that says nothing about them: a multiple of 1, 2, 4, …, or no other."""
        for multiple in (1, 2, 4, 8, 16, 32, 64):
            try:
                with torch.no_grad():
                    network.forward_features(self._images(self.size + multiple))
            except (RuntimeError, AssertionError, ValueError):
                continue
            self.multiple = multiple
            return
        self.fixed_size = self.size


_cut = cache(Cut)


def _plan(name: str, network: Any, chain: Chain) -> Plan:
    """The plan of a chain.

    Raises:
        BackboneError: It has no units, or too much of the network lies before them.
    """
    plan = make_plan(network, chain) if chain.units else Plan({})
    held = {id(each) for path in chain.units for each in network.get_submodule(path).parameters()}
    sizes = {id(each): each.numel() for each in network.parameters()}
    share = sum(size for key, size in sizes.items() if key in held) / sum(sizes.values())
    if not chain.units or (not chain.whole and share < 1 - LARGEST_FIRST_STAGE):
        raise BackboneError(
            f"timm/{name} is no row of stages, each of which takes what the one before it gives, so that it "
            f"cannot be cut: {chain.breaks_at}. Take one that is, such as {INSTEAD}."
        )
    if not has_learned_rope(network):
        return plan
    blocks = [path for name, paths in plan.stages.items() if name.startswith("block") for path in paths]
    rest = {name: paths for name, paths in plan.stages.items() if not name.startswith("block")}
    return Plan({"blocks": tuple(blocks), **rest}, plan.first, plan.with_rope)


def _timm() -> Any:
    """The library.

    Raises:
        ExtraError: It is not installed.
    """
    if find_spec("timm") is None:
        raise ExtraError(
            "Networks whose names begin with timm/ come from timm, which is not installed: "
            'pip install "lightning-transfer[timm]"'
        )
    import timm

    return timm


def _family(name: str) -> str:
    """The module of timm that makes a network."""
    family: str = _timm().models.model_entrypoint(name.partition(".")[0]).__module__
    return family


def _any_size(name: str) -> dict[str, bool]:
    """The arguments that make a network take images of any size."""
    return ANY_SIZE.get(_family(name).rpartition(".")[2], {})


PROVIDER = TimmProvider()
