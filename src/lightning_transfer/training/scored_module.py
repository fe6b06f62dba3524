"""Steps and scores: what a module does with batches, whatever network it trains.

Shapes: B batch, H W image, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lightning_transfer.callbacks.stop_on_non_finite import check_finite
from lightning_transfer.errors import ModuleError
from lightning_transfer.models.network import TransferNetwork
from lightning_transfer.training.batches import Batch, check_inputs, checked_labels, unpacked
from lightning_transfer.training.lr_schedule import StageLRScheduler
from lightning_transfer.training.task import SCORES, TASKS, EpochScores, Task, TaskName, watched
from lightning_transfer.utils.lightning import finds_rate


class ScoredModule(LightningModule):
    """Train, validate, test and predict by a task, and log its scores.

    A subclass has a `network`, and sets the task once the classes are known.

    Attributes:
        network: Plain torch; its activation is the task's.
        task: Loss, scores and activation.
        input_stage: What a batch of the current data module is: None for images, else features that enter the
            network at this stage.
    """

    network: TransferNetwork
    task: Task
    input_stage: str | None
    _train_scores: dict[str, Tensor]
    _checked_stages: set[str]

    @property
    def num_classes(self) -> int:
        """K; known once the data module is set up."""
        return int(self.hparams["num_classes"])

    @property
    def image_size(self) -> int:
        """H and W of the images, in pixels; known once the data module is set up."""
        return int(self.hparams["image_size"])

    @property
    def task_name(self) -> TaskName:
        """What the labels are: "single_label" or "multi_label"; known once the data module is set up."""
        return next(name for name, cls in TASKS.items() if cls is type(self.task))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        inputs, labels = batch[:2]
        logits = self(inputs)
        self._scores("train").add(logits, labels)
        return self.task.training_loss(logits, labels)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count a batch for the epoch's scores, and return its logits for callbacks that plot them."""
        logits: Tensor = self(batch[0])
        self._scores("validation").add(logits, batch[1])
        return logits

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch for the scores."""
        self._scores("test").add(self(batch[0]), batch[1])

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return (B, K) probabilities."""
        return self.task.probabilities(self(batch[0]))

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted epoch may have left."""
        self._scores("validation").reset()

    def on_test_epoch_start(self) -> None:
        """Forget what an interrupted epoch may have left."""
        self._scores("test").reset()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Compute the training scores with the last batch, so that a checkpoint after validation has them."""
        if self.trainer.is_last_batch:
            self._train_scores = self._scores("train").compute()

    def on_train_epoch_end(self) -> None:
        """Log the training scores."""
        self._log_scores("train", self._train_scores or self._scores("train").compute())
        self._train_scores = {}
        schedule = self._lr_schedule()
        if schedule is not None:
            schedule.epoch_end()

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores; skip the sanity check."""
        if self.trainer.sanity_checking:
            return
        scores = self._scores("validation").compute()
        self._log_scores("validation", scores)
        schedule = self._lr_schedule()
        if schedule is not None and schedule.watches and self.trainer.state.fn is TrainerFn.FITTING:
            schedule.validation_end(watched(scores, self.hparams["scheduler_monitor"]))

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores("test", self._scores("test").compute())

    def _apply_batch_transfer_handler(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        # Where Lightning moves a batch to the device: checked before, a wrong label costs no synchronisation.
        # (Of the hook for this, on_before_batch_transfer, Lightning warns wherever there is a data module.)
        return super()._apply_batch_transfer_handler(self._checked_batch(batch), device, dataloader_idx)

    def _checked_batch(self, batch: Any) -> tuple[Any, ...]:
        """Return a batch as a tuple: labels are checked in every one, images in the first one of each loop."""
        inputs, *others = unpacked(batch)
        stage = str(self.trainer.state.stage)
        if stage not in self._checked_stages:
            check_inputs(inputs, self.image_size if self.input_stage is None else None)
            self._checked_stages.add(stage)
        if self.trainer.predicting:
            return (inputs, *others)
        if not others:
            raise ModuleError("A batch holds images alone: wanted their labels too.")
        labels = checked_labels(others[0], len(inputs), self.num_classes, self.task_name)
        return (inputs, labels, *others[1:])

    def _set_task(self, name: TaskName) -> None:
        self.save_hyperparameters({"task": name})
        options = self.hparams
        self.task = TASKS[name](self.num_classes, options["label_smoothing"], options["class_weights"])
        self.network.activation = self.task.activation
        losses = {"train": self.task.training_loss, "validation": self.task.loss, "test": self.task.loss}
        self.scores = {split: EpochScores(split, self.task, loss) for split, loss in losses.items()}

    def _scores(self, split: str) -> EpochScores:
        return self.scores[split]

    def _log_scores(self, split: str, scores: dict[str, Tensor]) -> None:
        for score in SCORES:
            if (name := f"{split}/{score}") not in scores:
                self.trainer.callback_metrics.pop(name, None)  # that of an earlier epoch
        for name, value in scores.items():
            if (
                name.endswith("/loss")
                and self.trainer.state.fn is TrainerFn.FITTING
                and not finds_rate(self.trainer)
            ):
                check_finite(self.trainer, name.replace("/", " "), value)
            # They are those of all processes already; sync_dist only tells Lightning so.
            self.log(name, value, prog_bar=name.endswith(("/loss", "/accuracy")), sync_dist=True)

    def _lr_schedule(self) -> StageLRScheduler | None:
        # A finder replaces the schedule by one of its own.
        schedules: list[Any] = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return next((schedule for schedule in schedules if isinstance(schedule, StageLRScheduler)), None)
