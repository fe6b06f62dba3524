"""How a head takes a backbone's output: a map or tokens to one row of features an image.

Shapes: B batch, C channels, h w feature map, T tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lightning_transfer.errors import ModuleError

Pool = Literal["flatten", "avg", "max", "class_token", "class_token+avg", "native"]
NEEDS_CLASS_TOKEN = ("class_token", "class_token+avg")


class Flatten(nn.Module):
    """All numbers in a row: maps (B, C, h, w) or tokens (B, T, D) to (B, C·h·w) or (B, T·D)."""

    def forward(self, features: Tensor) -> Tensor:
        """Flatten."""
        return features.flatten(1)


class AveragePool(nn.Module):
    """The mean over all places: (B, C, h, w) to (B, C), or of the patches' tokens (B, T, D) to (B, D).

    Args:
        prefix_tokens: How many tokens come before those of the patches.
    """

    def __init__(self, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens

    def forward(self, features: Tensor) -> Tensor:
        """Average."""
        if features.ndim == 4:
            return features.mean(dim=(2, 3))
        return features[:, self.prefix_tokens :].mean(dim=1)


class MaxPool(AveragePool):
    """The largest number over all places."""

    def forward(self, features: Tensor) -> Tensor:
        """Take the maximum."""
        if features.ndim == 4:
            return features.amax(dim=(2, 3))
        return features[:, self.prefix_tokens :].amax(dim=1)


class ClassToken(nn.Module):
    """The first token: (B, T, D) to (B, D)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Take the token."""
        return tokens[:, 0]


class ClassTokenAndAverage(AveragePool):
    """The class token beside the mean of the patches' tokens: (B, T, D) to (B, 2·D).

    As DINOv2's linear evaluation has it (Oquab et al., https://arxiv.org/abs/2304.07193).
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Take both."""
        return torch.cat([tokens[:, 0], super().forward(tokens)], dim=1)


def make_pool(
    pool: Pool, in_shape: Sequence[int], prefix_tokens: int = 0, native: nn.Module | None = None
) -> tuple[nn.Module, int]:
    """Make a pooling layer.

    Args:
        pool: Which; see `Head`.
        in_shape: (C, h, w) of a map, or (T, D) of tokens.
        prefix_tokens: How many tokens come before those of the patches.
        native: The network's own pooling; only "native" needs it.

    Returns:
        The layer, and the width of the features that it gives.

    Raises:
        ModuleError: An unknown pooling, one that tokens alone have, or "native" without the network's own.

    >>> make_pool("class_token+avg", (257, 384), prefix_tokens=1)[1]
    768
    """
    if pool not in get_args(Pool):
        raise ModuleError(f"pool={pool!r}: wanted one of {', '.join(get_args(Pool))}.")
    if pool in NEEDS_CLASS_TOKEN and (len(in_shape) == 3 or not prefix_tokens):
        what = "a feature map" if len(in_shape) == 3 else "tokens without a class token"
        raise ModuleError(f'pool={pool!r}: this backbone gives {what}: take "avg" or "native".')
    width = in_shape[0] if len(in_shape) == 3 else in_shape[1]
    if pool == "flatten":
        return Flatten(), math.prod(in_shape)
    if pool == "class_token":
        return ClassToken(), width
    if pool == "class_token+avg":
        return ClassTokenAndAverage(prefix_tokens), 2 * width
    if pool == "max":
        return MaxPool(prefix_tokens), width
    if pool == "avg":
        return AveragePool(prefix_tokens), width
    if native is None:
        raise ModuleError('pool="native" needs the backbone\'s own pooling: pass native=backbone.native_pool().')
    return native, _width_of(native, in_shape)


def _width_of(native: nn.Module, in_shape: Sequence[int]) -> int:
    """The width that a network's own pooling gives; computes nothing."""
    weightless = {key: value.to("meta") for key, value in chain(native.named_parameters(), native.named_buffers())}
    training = native.training
    with torch.no_grad():
        out: Tensor = torch.func.functional_call(
            native.eval(), weightless, (torch.empty((1, *in_shape), device="meta"),)
        )
    native.train(training)
    return out.shape[1]
