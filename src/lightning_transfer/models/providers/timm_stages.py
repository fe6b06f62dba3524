"""The stages and the pooling of a timm network, made of its own layers.

Shapes: B batch, C channels, H W image, h w feature map, T tokens, D features.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.providers.module_chain import Plan, record_calls


class ChannelsLastStage(nn.Module):
    """A stage that computes in (B, h, w, C) and gives (B, C, h, w), as all others do.

    Args:
        layers: What it computes.
        first: It gets the images, whose channels come first for every network.
    """

    def __init__(self, layers: nn.Module, first: bool) -> None:
        super().__init__()
        self.layers = layers
        self.first = first

    def forward(self, features: Tensor) -> Tensor:
        """Compute; the permutations move no numbers where the memory is channels last."""
        if features.ndim == 4 and not self.first:
            features = features.permute(0, 2, 3, 1)
        features = self.layers(features)
        return features.permute(0, 3, 1, 2) if features.ndim == 4 else features


class Embedding(nn.Module):
    """All that a network does before its first block: patches, class token, registers, position embeddings.

    Args:
        network: The network without its blocks and what follows them.
        square: Blocks need to know the grid of tokens, so that images must be square.
    """

    def __init__(self, network: Any, square: bool) -> None:
        super().__init__()
        self.network = network
        self.square = square

    def forward(self, images: Tensor) -> Tensor:
        """Turn (B, 3, H, W) images into (B, T, D) tokens or a (B, C, h, w) map.

        Raises:
            BackboneError: The images are not square, and this network needs it.
        """
        if self.square and images.shape[2] != images.shape[3]:
            raise BackboneError(
                f"Images of {images.shape[2]} × {images.shape[3]} do not fit a network with rotary position "
                "embeddings, whose blocks take the tokens to be a square: resize the images to squares."
            )
        features: Tensor = self.network.forward_features(images)
        return features


class RotaryBlocks(nn.Module):
    """Blocks with rotary position embeddings, which are computed from the number of tokens.

    Args:
        blocks: One, or all where they share learned frequencies.
        rope: Makes the embeddings of a grid.
        prefix_tokens: How many tokens come before those of the patches.
        each: It makes one for each block, by frequencies that it learns, and not one for all.
    """

    def __init__(self, blocks: Iterable[nn.Module], rope: Any, prefix_tokens: int, each: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.rope = rope
        self.prefix_tokens = prefix_tokens
        self.each = each

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute (B, T, D) tokens of (B, T, D) tokens."""
        side = math.isqrt(tokens.shape[1] - self.prefix_tokens)
        rope = self.rope.get_embed(shape=(side, side))
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, rope=rope[number] if self.each else rope)
        return tokens


class NativePool(nn.Module):
    """What a network does between its last stage and its own classifier.

    Args:
        network: The network with no more than its `forward_head` needs.
        channels_last: `forward_head` takes (B, h, w, C).
    """

    def __init__(self, network: Any, channels_last: bool) -> None:
        super().__init__()
        self.network = network
        self.channels_last = channels_last

    def forward(self, features: Tensor) -> Tensor:
        """Turn (B, C, h, w) maps or (B, T, D) tokens into (B, D) features."""
        if self.channels_last and features.ndim == 4:
            features = features.permute(0, 2, 3, 1)
        pooled: Tensor = self.network.forward_head(features, pre_logits=True)
        return pooled


def make_stages(network: Any, plan: Plan, pool_parts: Collection[str]) -> dict[str, nn.Module]:
    """Make the stages of a plan; they share the network's layers.

    Args:
        network: The whole network.
        plan: How it is cut.
        pool_parts: Paths of the modules that its `forward_head` calls.
    """
    channels_last = is_channels_last(network)
    prefix_tokens = getattr(network, "num_prefix_tokens", 0)
    stages: dict[str, nn.Module] = {}
    if plan.first:
        stages[plan.first] = Embedding(_before(network, plan, pool_parts), square=bool(plan.with_rope))
    for name, paths in plan.stages.items():
        modules = {path.replace(".", "_"): network.get_submodule(path) for path in paths}
        if plan.with_rope.issuperset(paths):
            # A copy, since the modes of frozen stages are not those of the others.
            rope = network.rope if has_learned_rope(network) else copy.deepcopy(network.rope)
            stages[name] = RotaryBlocks(modules.values(), rope, prefix_tokens, has_learned_rope(network))
        elif len(modules) == 1:
            (stages[name],) = modules.values()
        else:
            stages[name] = nn.Sequential(OrderedDict(modules))
    if channels_last:
        first = next(iter(stages))
        return {name: ChannelsLastStage(stage, first=name == first) for name, stage in stages.items()}
    return stages


def _before(network: Any, plan: Plan, pool_parts: Collection[str]) -> nn.Module:
    """The network up to its first unit; its `forward_features` passes over the rest."""
    shallow: nn.Module = copy.copy(network)
    units = [path.split(".") for paths in plan.stages.values() for path in paths]
    containers = {path[0] for path in units if len(path) > 1}
    singles = {path[0] for path in units if len(path) == 1}
    later = singles | {path.partition(".")[0] for path in pool_parts} | set(_classifiers(network))
    shallow._modules = {
        name: nn.Sequential() if name in containers else nn.Identity() if name in later else child
        for name, child in network._modules.items()
    }
    if plan.with_rope:
        shallow._modules["rope"] = None  # the blocks have it
    return shallow


def _classifiers(network: Any) -> list[str]:
    """Names of the network's own classifiers among its children."""
    names = network.pretrained_cfg.get("classifier") or ()
    return [name.partition(".")[0] for name in ((names,) if isinstance(names, str) else names)]


def make_pool(network: Any, parts: Collection[str]) -> NativePool:
    """Make the native pooling of a network from the modules that its `forward_head` calls."""
    shallow = _only(network, parts)
    shallow._parameters, shallow._buffers = {}, {}
    return NativePool(shallow, is_channels_last(network))


def _only(module: nn.Module, parts: Collection[str]) -> nn.Module:
    """A copy of a module in which what is not among the parts, or around one, does nothing and has no numbers."""
    shallow = copy.copy(module)
    shallow._modules = {}
    for name, child in module._modules.items():
        inner = [path.removeprefix(f"{name}.") for path in parts if path.startswith(f"{name}.")]
        if child is None or (name in parts and not inner):
            shallow._modules[name] = child
        elif inner:
            shallow._modules[name] = _only(child, inner)
        else:
            shallow._modules[name] = nn.Identity()
    return shallow


def pool_parts(network: Any, features: Tensor) -> frozenset[str]:
    """Paths of the modules that a network's `forward_head` calls on the way to its classifier."""
    calls, _ = record_calls(network, lambda: network.forward_head(features, pre_logits=True))
    return frozenset(call.path for call in calls)


def is_channels_last(network: Any) -> bool:
    """Return whether a network's maps are (B, h, w, C)."""
    return str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")


def has_learned_rope(network: Any) -> bool:
    """Return whether the frequencies of all blocks' position embeddings are one parameter."""
    return bool(getattr(network, "rope_mixed", False))
