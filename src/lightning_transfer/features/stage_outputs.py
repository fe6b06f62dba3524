"""Compute the pooled output of every stage of a backbone, in one pass.

Shapes: B batch, C channels, H W image, T tokens, D features, N samples, S stages.
"""

from __future__ import annotations

from typing import cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader

from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.errors import BackboneError
from lightning_transfer.models.backbone import Backbone


class StageOutputs(LightningModule):
    """Average the output of every stage over the image, under `trainer.predict`; of tokens those of the patches.

    Args:
        backbone: Used as it is; Lightning sets it to eval mode while it predicts, and restores its mode.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) uint8, or floating in [0, 1], to S times (B, C) float32; C or D is each stage's own."""
        features, prefix = self.backbone.normalise(images), self.backbone.prefix_tokens
        pooled = []
        for stage in self.backbone.stages.values():
            features = stage(features)
            places = features.flatten(2) if features.ndim == 4 else features[:, prefix:].transpose(1, 2)
            pooled.append(places.mean(dim=2, dtype=torch.float32))
        return tuple(pooled)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> tuple[Tensor, ...]:
        """The outputs for a batch of (images, labels)."""
        images, _ = batch
        outputs: tuple[Tensor, ...] = self(images)
        return outputs


def stage_outputs(
    trainer: Trainer, backbone: Backbone, images: ImageDataModule, splits: tuple[str, ...]
) -> dict[str, list[Tensor]]:
    """Run a backbone once over the images of some splits, as they are and in their order.

    Args:
        trainer: Of one device, since the outputs stay in memory.
        backbone: Any backbone.
        images: What to take the images from.
        splits: Which.

    Returns:
        By split, S times (N, C) float32, on the CPU.

    Raises:
        DataError: There is no such split, or an image cannot be read.
        BackboneError: A stage's output is not finite.
    """
    datasets = [images.dataset(split) for split in splits]
    loader: DataLoader[tuple[Tensor, int]] = DataLoader(
        ConcatDataset(datasets),
        batch_size=images.batch_size,
        num_workers=images.num_workers,
        pin_memory=torch.cuda.is_available(),
    )
    batches = cast(list[tuple[Tensor, ...]], trainer.predict(StageOutputs(backbone), loader))
    outputs = [torch.cat(stage) for stage in zip(*batches, strict=True)]
    for name, stage in zip(backbone.stage_names, outputs, strict=True):
        if not stage.isfinite().all():
            raise BackboneError(
                f"{backbone.name} gives numbers that are not finite in {name}: are its weights sound?"
            )
    by_stage = [torch.split(stage, [len(dataset) for dataset in datasets]) for stage in outputs]
    return {split: list(stages) for split, stages in zip(splits, zip(*by_stage, strict=True), strict=True)}
