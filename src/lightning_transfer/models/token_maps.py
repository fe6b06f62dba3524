"""Tokens as a map: those of the patches, laid out as the patches lie in the image.

Shapes: B batch, C channels, h w feature map, T tokens, D features, P prefix tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_transfer.errors import BackboneError


def as_map(features: Tensor, prefix_tokens: int = 0) -> Tensor:
    """Return a map as it is, and of tokens those of the patches as a square map.

    Args:
        features: (B, C, h, w), or (B, T, D) with T = P + h·w, row by row.
        prefix_tokens: P, how many tokens come before those of the patches.

    Returns:
        (B, C, h, w), or (B, D, h, w) with h = w.

    Raises:
        BackboneError: They are neither; or the patches are no square.

    >>> as_map(torch.zeros(2, 1 + 4 * 4, 384), prefix_tokens=1).shape
    torch.Size([2, 384, 4, 4])
    """
    if features.ndim == 4:
        return features
    if features.ndim != 3:
        raise BackboneError(
            f"Wanted a map (B, C, h, w) or tokens (B, T, D), got features of shape {tuple(features.shape)}."
        )
    patches = features[:, prefix_tokens:]
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        raise BackboneError(
            f"{features.shape[1]:,} tokens, {prefix_tokens} of them before the patches', make no square map."
        )
    return patches.transpose(1, 2).reshape(len(patches), -1, side, side)


def as_tokens(features: Tensor, prefix: Tensor) -> Tensor:
    """Undo `as_map`.

    Args:
        features: (B, D, h, w).
        prefix: (B, P, D), the tokens before those of the patches.

    Returns:
        (B, P + h·w, D).
    """
    return torch.cat([prefix, features.flatten(2).transpose(1, 2)], dim=1)


def in_words(shape: tuple[int, ...]) -> str:
    """Return the shape of a stage's output for a table.

    >>> in_words((512, 4, 4)), in_words((257, 384))
    ('512×4×4', '257 tokens × 384')
    """
    return f"{shape[0]} tokens × {shape[1]}" if len(shape) == 2 else "×".join(map(str, shape))
