"""Save the backbone of a fit as a weights file that says where it comes from."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.saving import save_weights


class SaveBackbone(Callback):
    """At the end of a fit, write the module's `backbone` under torchvision's keys, as float16.

    The file's metadata say which network it is of, how it was trained (the module's hyperparameters, epochs),
    what it reached, when, and with which version of torch.

    Args:
        path: A .safetensors file.
        origin: What the backbone was trained on, in words.
        monitor: The score that is noted.
    """

    def __init__(self, path: str, origin: str, monitor: str = "validation/accuracy") -> None:
        self.path = path
        self.origin = origin
        self.monitor = monitor

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, on rank 0."""
        if not trainer.is_global_zero:
            return
        backbone = pl_module.backbone
        if not isinstance(backbone, Backbone):
            raise TypeError(
                f"SaveBackbone wanted a module whose backbone is a Backbone, got {type(backbone).__name__}."
            )
        metadata = {
            "network": backbone.name,
            "origin": self.origin,
            "epochs": str(trainer.current_epoch),
            "hyperparameters": json.dumps(dict(pl_module.hparams), default=str),
            self.monitor: f"{float(trainer.callback_metrics[self.monitor]):.4f}",
            "date": datetime.now(UTC).date().isoformat(),
            "torch": torch.__version__,
        }
        save_weights(backbone, self.path, metadata)
