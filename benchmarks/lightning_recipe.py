"""Fine-tuning as in Lightning's own example on cats and dogs, with only Lightning's parts.

A subclass of `BaseFinetuning` unfreezes the backbone at a milestone and adds its parameters to Adam, which has
only the head's until then; one logit and binary cross-entropy; images are mirrored and normalised in the loader;
float32.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.plain_torch import TO_FLOAT, batches, dense_head, share_right, squeezenet
from benchmarks.recipe import Reached, Recipe
from benchmarks.timing import quiet_trainer


class Milestone(BaseFinetuning):
    """Unfreeze the backbone once."""

    def __init__(self, epoch: int, lr: float) -> None:
        super().__init__()
        self.epoch = epoch
        self.lr = lr
        self.seconds = 0.0

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Freeze the whole backbone."""
        self.freeze(pl_module.backbone, train_bn=False)

    def finetune_function(
        self, pl_module: LightningModule, current_epoch: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Unfreeze at the epoch's start."""
        if current_epoch == self.epoch:
            self.seconds = time.perf_counter()
            self.unfreeze_and_add_param_group(pl_module.backbone, optimizer, self.lr)


class TwoParts(LightningModule):
    """A backbone and a head with one logit."""

    def __init__(self, weights: Path, lr: float) -> None:
        super().__init__()
        self.backbone = squeezenet(weights)
        self.head = dense_head(1)
        self.lr = lr

    def forward(self, images: Tensor) -> Tensor:
        """Compute (B, 1) logits of (B, 3, H, W) images."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the binary cross-entropy."""
        images, labels = batch
        return F.binary_cross_entropy_with_logits(self(images).squeeze(1), labels.float())

    def configure_optimizers(self) -> Any:
        """Make Adam, whose learning rate falls to a tenth half-way."""
        optimizer = torch.optim.Adam([p for p in self.parameters() if p.requires_grad], self.lr)
        milestones = [max(1, (self.trainer.max_epochs or 1) // 2)]
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)]


def lightning_recipe(data: Path, weights: Path, recipe: Recipe, seed: int) -> Reached:
    """Fit once; time it up to the milestone and from there on."""
    torch.manual_seed(seed)
    model = TwoParts(weights, recipe.frozen_lr)
    milestone = Milestone(recipe.frozen_epochs, recipe.base_lr)
    trainer: Trainer = quiet_trainer("32-true", recipe.frozen_epochs + recipe.tuned_epochs)
    trainer.callbacks.append(milestone)  # type: ignore[attr-defined]
    loader = batches(data / "train", recipe.batch_size, v2.RandomHorizontalFlip(), TO_FLOAT, shuffle=True)
    start = time.perf_counter()
    trainer.fit(model, loader)
    end = time.perf_counter()
    model.eval()
    with torch.inference_mode():
        said = [(model(images), labels) for images, labels in batches(data / "test", 100, TO_FLOAT)]
    return Reached(
        (milestone.seconds - start) / recipe.frozen_epochs,
        (end - milestone.seconds) / recipe.tuned_epochs,
        share_right([s for s, _ in said], [label for _, label in said]),
    )
