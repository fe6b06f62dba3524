"""The loss that training minimises.

Shapes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_transfer.errors import ModuleError

ClassWeights = Literal["balanced"] | list[float] | None


class TrainingLoss(nn.Module):
    """Cross-entropy with smoothed labels and weighted classes.

    The weights multiply each sample's loss, and the mean is over samples: so several processes, or several batches
    whose gradients are added up, minimise the same as one large batch. (torch's own mean divides by the weights
    that happen to be in the batch.)

    Args:
        num_classes: K.
        label_smoothing: Share of the label that is spread evenly over all classes.
        class_weights: K factors, or "balanced", see `balance`.

    Raises:
        ModuleError: A share out of range, or another number of weights than of classes.

    >>> loss = TrainingLoss(2, class_weights="balanced")
    >>> loss.balance([30, 10])
    >>> loss.weight
    tensor([0.6667, 2.0000])
    """

    weight: Tensor | None

    def __init__(self, num_classes: int, label_smoothing: float = 0.0, class_weights: ClassWeights = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ModuleError(f"label_smoothing={label_smoothing}: wanted a share from 0 on, below 1.")
        if isinstance(class_weights, str) and class_weights != "balanced":
            raise ModuleError(f'class_weights={class_weights!r}: wanted "balanced", or a number for each class.')
        listed = None if class_weights is None or isinstance(class_weights, str) else class_weights
        if listed is not None and (len(listed) != num_classes or min(listed) < 0):
            raise ModuleError(f"class_weights={class_weights}: wanted {num_classes} numbers, none negative.")
        self.label_smoothing = label_smoothing
        self.balanced = class_weights == "balanced"
        # Not in checkpoints: the arguments and the data say it all.
        weight = None if listed is None else torch.tensor(listed, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)

    def balance(self, counts: Sequence[int]) -> None:
        """Weighs each class by N / (K · its samples), as scikit-learn's "balanced" does.

        Args:
            counts: Samples of each class in the training data, all positive.
        """
        samples = torch.tensor(counts, dtype=torch.float32)
        self.weight = samples.sum() / (len(counts) * samples)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the samples of (B, K) logits and (B,) labels, a scalar; float32 at least."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        losses = F.cross_entropy(logits, labels, weight, reduction="none", label_smoothing=self.label_smoothing)
        return losses.mean()
