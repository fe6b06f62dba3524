"""A LightningModule that only predicts: images in, features out.

Shapes: B batch, C channels, H W image, h w feature map, T tokens, D features.
"""

from __future__ import annotations

from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_transfer.models.backbone import Backbone


class FeatureExtractor(LightningModule):
    """Run a backbone under `trainer.predict`; device, precision and number of processes are the Trainer's.

    Args:
        backbone: Used as it is; Lightning sets it to eval mode while it predicts, and restores its mode.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8, or floating in [0, 1], to (B, C, h, w) or (B, T, D) floating."""
        features: Tensor = self.backbone(images)
        return features

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The features of a batch of (images, labels)."""
        images, _ = batch
        features: Tensor = self(images)
        return features
