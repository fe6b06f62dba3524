"""Seed each training step by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class StepSeeds(Callback):
    """Seed torch before each training batch from (seed, epoch, batch, rank).

    Dropout and all other randomness of a step then depend on nothing before it, so that a resumed run is the
    uninterrupted one to the last bit.

    Args:
        seed: Not negative.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the CPU's generator and the module's device's."""
        entropy = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
        # torch.manual_seed notes a traceback for each kind of device that is not in use: a third of a small step.
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type != "cpu":
            torch.get_device_module(pl_module.device).manual_seed(seed)
