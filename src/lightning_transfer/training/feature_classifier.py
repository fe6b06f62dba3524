"""Regime one, feature extraction: the backbone has run once; the head trains on what it said.

Shapes: B batch, C channels, H W image, h w feature map, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_transfer.training.classifier import Classifier


class FeatureClassifier(Classifier):
    """Trains the head alone, on stored features; takes images just as well.

    A batch of the backbone's output shape, (B, C, h, w), is features and goes to the head; any other is images,
    and goes through the frozen backbone first. So the same checkpoint serves a feature store and a folder.
    """

    def configure_backbone(self) -> None:
        """Nothing of the backbone trains."""
        self.backbone.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, h, w) features or (B, 3, H, W) images to (B, K) logits."""
        if inputs.shape[1:] != self.head.in_shape:
            with torch.no_grad():
                inputs = self.backbone(inputs)
        logits: Tensor = self.head(inputs.to(self.head.logits.weight.dtype))
        return logits
