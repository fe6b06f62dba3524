"""The classifier on a backbone, the same in every regime.

Shapes: B batch, C channels, h w feature map, T tokens, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.freezing import freeze
from lightning_transfer.models.pooling import Pool, make_pool
from lightning_transfer.utils.batch_norm import has_batch_norm


class Head(nn.Module):
    """Pool, one hidden layer, dropout, logits.

    The default is that of Chollet, Deep Learning with Python, 1st edition, section 5.3.1: flatten, Dense 256
    with ReLU, dropout 0.5, and the output (here K logits, there one sigmoid).

    Args:
        in_shape: (C, h, w) of the feature map, or (T, D) of the tokens.
        num_classes: K.
        pool: "flatten" keeps all positions (D = C·h·w); "avg" and "max" pool over them (D = C), of tokens over
            those of the patches; "class_token" takes the first token, "class_token+avg" both; "native" is what the
            network's own classifier gets, by its pretrained layers in between, which stay frozen.
        hidden: Width of the hidden layer; 0 for none, a linear classifier.
        dropout: Dropout rate of the hidden units; of the features where there is no hidden layer.
        prefix_tokens: How many tokens come before those of the patches; see `Backbone`.
        native: The network's own pooling, `Backbone.native_pool()`; only pool="native" needs it.

    Raises:
        ModuleError: An argument out of range, or a pooling that the shape does not have.

    >>> import torch
    >>> Head((512, 4, 4), num_classes=2)(torch.zeros(7, 512, 4, 4)).shape
    torch.Size([7, 2])
    >>> sum(p.numel() for p in Head((512, 4, 4), num_classes=2, pool="avg").parameters())
    131842
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        num_classes: int,
        pool: Pool = "flatten",
        hidden: int = 256,
        dropout: float = 0.5,
        prefix_tokens: int = 0,
        native: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ModuleError(f"num_classes={num_classes}: wanted two or more.")
        if hidden < 0:
            raise ModuleError(f"hidden={hidden}: wanted a width, or 0 for no hidden layer.")
        self.in_shape = tuple(in_shape)
        self.pool, features = make_pool(pool, in_shape, prefix_tokens, native)
        freeze(self.pool, modes=False)
        self.hidden = nn.Sequential(nn.Linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(hidden or features, num_classes)
        self.hold_pool()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but a native pooling with BatchNorm, which stays in eval mode, as it is frozen."""
        super().train(mode)
        self.hold_pool()
        return self

    def hold_pool(self) -> None:
        """Put a native pooling with BatchNorm into eval mode; others have no modes."""
        if has_batch_norm(self.pool):
            self.pool.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Compute (B, K) logits of (B, C, h, w) or (B, T, D) features."""
        logits: Tensor = self.logits(self.dropout(self.hidden(self.pool(features))))
        return logits
