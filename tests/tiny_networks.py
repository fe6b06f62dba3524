"""Tiny networks of torchvision's kinds, under names such as "small/vit_xs", for tests that train.

Their numbers are random; importing this module makes the names known.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, MaxVit, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from lightning_transfer.models.providers.provider import Preprocessing, Provider, provider_of, register_provider
from lightning_transfer.models.providers.torchvision import TorchvisionProvider
from lightning_transfer.models.providers.torchvision_transformers import any_partition

SWIN = {
    "patch_size": [4, 4],
    "embed_dim": 8,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 4, 8],
    "window_size": [2, 2],
    "stochastic_depth_prob": 0.1,
}
WIDTHS = (8, 16, 32, 64)


def vit(image_size: int = 32) -> VisionTransformer:
    """Four blocks, and sixteen patches at 32 × 32."""
    return VisionTransformer(image_size, patch_size=8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=32)


def maxvit(image_size: int = 32) -> MaxVit:
    """Two blocks, with windows of 2 × 2."""
    return MaxVit((image_size, image_size), 8, 2, [8, 16], [1, 2], head_dim=4, stochastic_depth_prob=0.1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convnext_xs": lambda: ConvNeXt(
        [CNBlockConfig(*pair, 1) for pair in zip(WIDTHS, (*WIDTHS[1:], None), strict=True)]
    ),
    "maxvit_xs": maxvit,
    "swin_v2_xs": lambda: SwinTransformer(**SWIN, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
    "swin_xs": lambda: SwinTransformer(**SWIN),
    "vit_xs": vit,
}


def numbers_of(name: str) -> dict[str, Tensor]:
    """A state dict with numbers of its own everywhere; of "small/vit_xs" or of a network of torchvision's."""
    generator = torch.Generator().manual_seed(0)
    provider, own_name = provider_of(name)
    return {
        key: torch.rand(value.shape, generator=generator) + 1 if value.is_floating_point() else value
        for key, value in provider.build(own_name).state_dict().items()
    }


class TinyNetworks(TorchvisionProvider):
    """Stages and keys are torchvision's."""

    check_name = Provider.check_name
    find_weights = Provider.find_weights

    def network_names(self) -> list[str]:
        """All of them."""
        return sorted(NETWORKS)

    def build(self, name: str) -> nn.Module:
        """Make the whole network."""
        return any_partition(NETWORKS[name]())

    def preprocessing(self, name: str) -> Preprocessing:
        """Nobody has trained them."""
        return Preprocessing((0.5,) * 3, (0.5,) * 3, size=32)


register_provider("small", TinyNetworks())
