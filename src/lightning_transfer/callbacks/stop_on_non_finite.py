"""Stop runs that Lightning would end as a success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lightning_transfer.errors import TrainingError

# Checking syncs the device, so do it every N steps; a NaN stays, and is seen a little later.
STEPS_BETWEEN_CHECKS = 50


class StopOnNonFinite(Callback):
    """Stop on a non-finite loss or weights, and on empty loaders; for any LightningModule.

    The training loss is checked every `STEPS_BETWEEN_CHECKS` steps and at an epoch's last; all losses that
    validation logs, before they choose a checkpoint; weights whenever they are to be saved, and at the end. A
    buffer may be infinite, as a mask is, but not NaN.

    Raises:
        TrainingError: Names what is not finite, or which loader is empty. Checkpoints saved before stay.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse an empty validation loader, by which no checkpoint could be chosen."""
        if 0 in trainer.num_val_batches and trainer.limit_val_batches:
            raise no_batches("validation")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the training loss now and then."""
        due = batch_idx % STEPS_BETWEEN_CHECKS == 0 or trainer.is_last_batch
        if due and "loss" in (outputs or ()):
            check_finite(trainer, "training loss", outputs["loss"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check what validation logged, before a ModelCheckpoint looks at it."""
        if trainer.sanity_checking or trainer.state.fn is not TrainerFn.FITTING:
            return
        for name, value in trainer.callback_metrics.items():
            if name.endswith("loss") and not name.startswith("train"):
                check_finite(trainer, name.replace("/", " "), value)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the weights."""
        _check_weights(trainer, pl_module, checkpoint["state_dict"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights that the last step has left; no loss knows them."""
        _check_weights(trainer, pl_module, pl_module.state_dict())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse to have seen no batch."""
        split, batches, limit = {
            "fit": ("train", [trainer.num_training_batches], trainer.limit_train_batches),
            "validate": ("validation", trainer.num_val_batches, trainer.limit_val_batches),
            "test": ("test", trainer.num_test_batches, trainer.limit_test_batches),
            "predict": ("predict", trainer.num_predict_batches, trainer.limit_predict_batches),
        }[stage]
        # A loader without a length is noticed by its missing scores, except in prediction.
        none = stage == "predict" and not trainer.predict_loop.batch_progress.current.ready
        if limit and (none or 0 in batches):
            raise no_batches(split)


def no_batches(split: str) -> TrainingError:
    """Make the error for an empty loader."""
    return TrainingError(
        f"Not one batch of {split} data came: wanted at least one. Is the data set empty, or does drop_last leave "
        "nothing of it?"
    )


def _check_weights(trainer: Trainer, module: LightningModule, weights: Mapping[str, Any]) -> None:
    parameters = {name for name, _ in module.named_parameters()}
    for name, value in weights.items():
        if isinstance(value, Tensor):
            wrong = value.isfinite().logical_not() if name in parameters else value.isnan()
            if bool(wrong.any()):
                raise _not_finite(trainer, name)


def check_finite(trainer: Trainer, name: str, value: Tensor) -> None:
    """Stop a run where a value is not finite.

    Raises:
        TrainingError: So it is; names it.
    """
    if not bool(torch.isfinite(value).all()):
        raise _not_finite(trainer, name)


def _not_finite(trainer: Trainer, name: str) -> TrainingError:
    return TrainingError(
        f"The {name} is not finite any more, in epoch {trainer.current_epoch}, step {trainer.global_step}: "
        "checkpoints saved before are left as they are. Take a lower lr or a longer warmup_steps, or clip "
        "gradients (--trainer.gradient_clip_val 1); instead of 16-mixed or 16-true, try bf16-mixed."
    )
