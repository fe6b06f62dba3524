"""A network whose run is broken off where it has come to nothing, which Lightning takes for success."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_transfer.callbacks.history import History
from lightning_transfer.errors import TrainingError
from lightning_transfer.training.epoch_scores import no_batches
from lightning_transfer.training.network import Network
from lightning_transfer.utils.lightning import find_callbacks

# A look waits for the device; a loss that is no number stays so, and is seen a little later.
STEPS_BETWEEN_LOOKS = 50


class GuardedNetwork(Network):
    """Refuses a loss and weights that are no numbers, and loaders that are empty.

    A loss is looked at every `STEPS_BETWEEN_LOOKS` steps and at an epoch's last; whoever computes an epoch's score
    passes it to `check_finite` before it is judged. Weights are looked at whenever they are to be saved.
    """

    def check_finite(self, name: str, value: Tensor) -> None:
        """Looks at what must be finite in a run that makes sense.

        Args:
            name: What it is, for the error.
            value: Of any shape.

        Raises:
            TrainingError: There is a NaN or an infinity in it.
        """
        # A rate finder, which looks for where the loss goes up, has put the callbacks aside.
        if bool(torch.isfinite(value).all()) or not find_callbacks(self.trainer, History):
            return
        raise TrainingError(
            f"The {name} is not finite any more, in epoch {self.current_epoch}, step {self.global_step}: the run "
            "has come to nothing, and what was saved before is left as it is. Take a lower lr or a longer "
            "warmup_steps, or clip gradients (--trainer.gradient_clip_val 1); instead of 16-mixed, try bf16-mixed."
        )

    def on_train_start(self) -> None:
        """Refuses a validation of nothing, by which nothing could be judged.

        Raises:
            TrainingError: A validation loader is empty.
        """
        if 0 in self.trainer.num_val_batches and self.trainer.limit_val_batches:
            raise no_batches("validation")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Looks at the loss now and then, and at the end of an epoch.

        Raises:
            TrainingError: See `check_finite`.
        """
        due = batch_idx % STEPS_BETWEEN_LOOKS == 0 or self.trainer.is_last_batch
        if due and "loss" in (outputs or ()):
            self.check_finite("training loss", outputs["loss"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Looks at the weights, and makes the checkpoint enough.

        Raises:
            TrainingError: See `check_finite`.
        """
        for name, value in checkpoint["state_dict"].items():
            if isinstance(value, Tensor):
                self.check_finite(name, value)
        super().on_save_checkpoint(checkpoint)

    def teardown(self, stage: str) -> None:
        """Refuses to have done nothing.

        Raises:
            TrainingError: The loader was empty.
        """
        trainer = self.trainer
        split, batches, limit = {
            "fit": ("train", [trainer.num_training_batches], trainer.limit_train_batches),
            "validate": ("validation", trainer.num_val_batches, trainer.limit_val_batches),
            "test": ("test", trainer.num_test_batches, trainer.limit_test_batches),
            "predict": ("predict", trainer.num_predict_batches, trainer.limit_predict_batches),
        }[stage]
        # A loader that cannot say its length tells by its scores, but for those of a prediction.
        none = stage == "predict" and not trainer.predict_loop.batch_progress.current.ready
        if limit and (none or 0 in batches):
            raise no_batches(split)
