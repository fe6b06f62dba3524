"""The classifier on a backbone, the same in every regime.

Shapes: B batch, C channels, h w feature map, D features, K classes.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from lightning_transfer.errors import ModuleError

Pool = Literal["flatten", "avg", "max"]
POOLS: dict[Pool, type[nn.Module]] = {"avg": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


class Head(nn.Module):
    """Pool, one hidden layer, dropout, logits.

    The default is that of Chollet, Deep Learning with Python, 1st edition, section 5.3.1: flatten, Dense 256
    with ReLU, dropout 0.5, and the output (here K logits, there one sigmoid).

    Args:
        in_shape: (C, h, w) of the feature map.
        num_classes: K.
        pool: "flatten" keeps all positions (D = C·h·w); "avg" and "max" pool over them (D = C).
        hidden: Width of the hidden layer; 0 for none, a linear classifier.
        dropout: Dropout rate of the hidden units; of the features where there is no hidden layer.

    >>> import torch
    >>> Head((512, 4, 4), num_classes=2)(torch.zeros(7, 512, 4, 4)).shape
    torch.Size([7, 2])
    >>> sum(p.numel() for p in Head((512, 4, 4), num_classes=2, pool="avg").parameters())
    131842
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        num_classes: int,
        pool: Pool = "flatten",
        hidden: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if pool not in get_args(Pool):
            raise ModuleError(f"pool={pool!r}: wanted one of {', '.join(get_args(Pool))}.")
        if num_classes < 2:
            raise ModuleError(f"num_classes={num_classes}: wanted two or more.")
        if hidden < 0:
            raise ModuleError(f"hidden={hidden}: wanted a width, or 0 for no hidden layer.")
        self.in_shape = in_shape
        channels, height, width = in_shape
        self.pool = nn.Identity() if pool == "flatten" else POOLS[pool](1)
        self.flatten = nn.Flatten()
        features = channels * height * width if pool == "flatten" else channels
        self.hidden = nn.Sequential(nn.Linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(hidden or features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Compute (B, K) logits of (B, C, h, w) features."""
        logits: Tensor = self.logits(self.dropout(self.hidden(self.flatten(self.pool(features)))))
        return logits
