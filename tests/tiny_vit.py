"""A tiny vision transformer as a row of stages, whose output is tokens; importing this registers "tiny/vit".

Shapes: B batch, T tokens, D features, h w grid of patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from lightning_transfer.models.pooling import ClassToken
from lightning_transfer.models.providers.provider import Preprocessing, Provider, Row, register_provider

NAME = "tiny/vit"
SIZE, PATCH, WIDTH = 32, 8, 16  # 4 × 4 patches and the class token: 17 tokens
STAGES = ("patch_embed", "block1", "block2", "norm")


class PatchEmbed(nn.Module):
    """Images to tokens: patches, class token, position embeddings, which are resized to the image's grid."""

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.proj, self.class_token = network.conv_proj, network.class_token
        self.positions = network.encoder.pos_embedding

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, T, D)."""
        patches = self.proj(images)
        own, grid = SIZE // PATCH, patches.shape[-1]
        positions = self.positions[:, 1:]
        if grid != own:
            places = positions.transpose(1, 2).unflatten(2, (own, own))
            positions = F.interpolate(places, (grid, grid), mode="bicubic").flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        return tokens + torch.cat([self.positions[:, :1], positions], dim=1)


class TinyProvider(Provider):
    """One network, "vit", with random weights."""

    def network_names(self) -> list[str]:
        return ["vit"]

    def build(self, name: str) -> VisionTransformer:
        network = VisionTransformer(
            image_size=SIZE, patch_size=PATCH, num_layers=2, num_heads=2, hidden_dim=WIDTH, mlp_dim=32
        )
        if not network.class_token.is_meta:
            nn.init.normal_(network.class_token)  # torchvision's zeros would hide what goes wrong with it
        return network

    def row(self, name: str, network: VisionTransformer) -> Row:
        layers = network.encoder.layers
        stages = (PatchEmbed(network), layers[0], layers[1], network.encoder.ln)
        return Row(dict(zip(STAGES, stages, strict=True)), ClassToken(), prefix_tokens=1, multiple=PATCH)

    def preprocessing(self, name: str) -> Preprocessing:
        return Preprocessing((0.5,) * 3, (0.5,) * 3, SIZE)


register_provider("tiny", TinyProvider())
