"""Normalisation of images as a network was trained, inside the network.

Shapes: B batch, H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_transfer.models.providers.provider import Preprocessing


class Normalise(nn.Module):
    """Normalise images, uint8 or floating in [0, 1], as a network was trained.

    Args:
        preprocessing: Whose mean and standard deviation a channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 3, H, W), floating, channels last in memory."""
        scale = self.std.reciprocal()
        if images.dtype == torch.uint8:
            scale = scale / 255
        images = images.to(scale.dtype).contiguous(memory_format=torch.channels_last)
        return torch.addcmul(-self.mean / self.std, images, scale)
