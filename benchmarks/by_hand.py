"""A frozen-backbone epoch and fine-tuning epochs in a fast hand-written loop."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.plain_torch import MEAN, STD, TO_UINT8, augmented, batches, dense_head, share_right, squeezenet
from benchmarks.recipe import Reached, Recipe
from lightning_transfer.utils.machine import default_precision


def by_hand(data: Path, weights: Path, recipe: Recipe, seed: int) -> Reached:
    """Train with uint8 input, channels last, autocast if the processor has bf16 units, and fused AdamW."""
    torch.manual_seed(seed)
    backbone = squeezenet(weights).to(memory_format=torch.channels_last)
    head = dense_head(2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    bf16 = default_precision() == "bf16-mixed"

    def logits_of(images: Tensor) -> Tensor:
        ready = (images.float() / 255 - mean) / std
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits: Tensor = head(backbone(ready.contiguous(memory_format=torch.channels_last)))
        return logits.float()

    def train(groups: list[dict[str, object]], epochs: int, one_cycle: bool) -> float:
        start = time.perf_counter()
        loader = batches(data / "train", recipe.batch_size, augmented(recipe.augmentation), TO_UINT8, shuffle=True)
        optimizer = torch.optim.AdamW(groups, fused=True)
        rates = [group["lr"] for group in groups]
        schedule = OneCycleLR(optimizer, rates, epochs * len(loader)) if one_cycle else None
        for _ in range(epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(logits_of(images), labels).backward()
                optimizer.step()
                if schedule is not None:
                    schedule.step()
        return (time.perf_counter() - start) / epochs

    backbone.requires_grad_(False).eval()
    frozen = train([{"params": head.parameters(), "lr": recipe.frozen_lr}], recipe.frozen_epochs, False)
    backbone.requires_grad_(True).train()
    groups: list[dict[str, object]] = [
        {"params": backbone.parameters(), "lr": recipe.base_lr},
        {"params": head.parameters(), "lr": recipe.head_lr},
    ]
    tuned = train(groups, recipe.tuned_epochs, True)
    nn.ModuleList([backbone, head]).eval()
    with torch.inference_mode():
        said = [(logits_of(images), labels) for images, labels in batches(data / "test", 100, TO_UINT8)]
    return Reached(frozen, tuned, share_right([s for s, _ in said], [label for _, label in said]))
