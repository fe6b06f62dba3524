"""torchvision's transformers as rows of stages: ViT gives tokens, Swin and MaxViT give maps.

Shapes: B batch, C channels, H W image, h w patches, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer
from torchvision.models.maxvit import PartitionAttentionLayer
from torchvision.ops import Permute

from lightning_transfer.models.pooling import AveragePool, ClassToken
from lightning_transfer.models.providers.provider import Row

POSITIONS = "encoder.pos_embedding"


class PatchEmbed(nn.Module):
    """A ViT's patches, behind its class token, with position embeddings: (B, 3, H, W) to (B, 1 + h·w, D).

    The embeddings are kept for the patches that the weights were trained with, and interpolated where an image has
    more or fewer, as `torchvision.models.vision_transformer.interpolate_embeddings` does.

    Args:
        network: The whole one, whose layers are shared.
    """

    pos_embedding: nn.Parameter

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = network.conv_proj
        self.class_token = network.class_token
        self.pos_embedding = network.encoder.pos_embedding
        self.dropout = network.encoder.dropout

    def forward(self, images: Tensor) -> Tensor:
        """Cut into patches and embed."""
        patches = self.conv_proj(images)
        class_tokens = self.class_token.expand(images.shape[0], -1, -1)
        tokens = torch.cat([class_tokens, patches.flatten(2).transpose(1, 2)], dim=1)
        embedded: Tensor = self.dropout(tokens + self._positions(*patches.shape[2:]))
        return embedded

    def _positions(self, height: int, width: int) -> Tensor:
        """(1, 1 + h·w, D), the class token's first."""
        side = math.isqrt(self.pos_embedding.shape[1] - 1)
        if (height, width) == (side, side):
            return self.pos_embedding
        grid = self.pos_embedding[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=True)
        return torch.cat([self.pos_embedding[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        # A checkpoint's network may have been trained at another size than the one that was built to take it.
        given = state_dict.get(f"{prefix}pos_embedding")
        if given is not None and _are_positions(given, self.pos_embedding):
            self.pos_embedding.data = self.pos_embedding.new_empty(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *others)


def _are_positions(given: Tensor, like: Tensor) -> bool:
    """Whether a tensor holds position embeddings as wide as others, for a class token and a square of patches."""
    patches = given.shape[1] - 1 if given.ndim == 3 else -1
    return given.ndim == 3 and given.shape[::2] == like.shape[::2] and math.isqrt(patches) ** 2 == patches


class ChannelsLast(nn.Sequential):
    """Layers that want (B, h, w, C), in a network whose stages pass on (B, C, h, w).

    Nothing is copied where the map's channels are last in memory, as they are in ours.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Permute, apply, permute back."""
        features = features.permute(0, 2, 3, 1)
        for layer in self:
            features = layer(features)
        return features.permute(0, 3, 1, 2)


def fit_positions(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a ViT on the meta device room for a state dict's position embeddings, which may be for more patches.

    SWAG's weights, for one, were trained at 384 or 518 pixels.
    """
    given = state.get(POSITIONS)
    if isinstance(network, VisionTransformer) and given is not None:
        own = network.encoder.pos_embedding
        if _are_positions(given, own):
            network.encoder.pos_embedding = nn.Parameter(own.new_empty(given.shape))


def any_partition(network: nn.Module) -> nn.Module:
    """Let a MaxViT take images of any multiple of its size; other networks stay as they are.

    torchvision writes the size of the map into each layer when it builds the network; the weights do not depend on
    it, as the windows and the grids are of 7 × 7 at each size.
    """
    for layer in network.modules():
        if isinstance(layer, PartitionAttentionLayer):
            layer.register_forward_pre_hook(_partition_as_the_map)
    return network


def _partition_as_the_map(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    height, width = inputs[0].shape[2:]
    layer.grid_size = (height, width)
    if layer.partition_type == "grid":
        layer.p = height // layer.g


def _vit(network: nn.Module) -> Row:
    vit = cast(VisionTransformer, network)
    blocks = {f"block{number}": block for number, block in enumerate(vit.encoder.layers, start=1)}
    stages = {"patch_embed": PatchEmbed(vit), **blocks, "norm": vit.encoder.ln}
    return Row(stages, ClassToken(), prefix_tokens=1, multiple=vit.patch_size)


def _swin(network: nn.Module) -> Row:
    swin = cast(SwinTransformer, network)
    stem, first, *rest = swin.features
    stages = {"stem": nn.Sequential(*stem, Permute([0, 3, 1, 2])), "stage1": ChannelsLast(*first)}
    for number, (merging, blocks) in enumerate(zip(rest[::2], rest[1::2], strict=True), start=2):
        stages[f"stage{number}"] = ChannelsLast(merging, *blocks)
    return Row({**stages, "norm": ChannelsLast(swin.norm)}, AveragePool())


def _maxvit(network: nn.Module) -> Row:
    maxvit = cast(MaxVit, network)
    blocks = {f"block{i}": nn.Sequential(*block.layers) for i, block in enumerate(maxvit.blocks, start=1)}
    # Its four blocks and the stem halve the map, which is then cut into windows.
    multiple = 2 ** (len(blocks) + 1) * maxvit.partition_size
    first_linear = next(i for i, layer in enumerate(maxvit.classifier) if isinstance(layer, nn.Linear))
    return Row({"stem": maxvit.stem, **blocks}, maxvit.classifier[:first_linear], multiple=multiple)


# By the beginning of the network's name.
TRANSFORMERS: dict[str, Callable[[nn.Module], Row]] = {"maxvit_": _maxvit, "swin_": _swin, "vit_": _vit}
