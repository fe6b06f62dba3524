"""What all regimes share in training: the step, the scores, the optimizer.

Shapes: B batch, H W image, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW

from lightning_transfer.callbacks.freeze_audit import FreezeAudit
from lightning_transfer.callbacks.history import History
from lightning_transfer.errors import ModuleError
from lightning_transfer.models.freezing import is_trainable, parameter_groups
from lightning_transfer.models.head import Pool
from lightning_transfer.training.checkpoint_io import between_epochs
from lightning_transfer.training.epoch_scores import EpochScores
from lightning_transfer.training.guarded_network import GuardedNetwork
from lightning_transfer.training.loss import ClassWeights, TrainingLoss
from lightning_transfer.training.lr_schedule import Interval, StageLRScheduler, lr_schedule
from lightning_transfer.utils.lightning import find_callbacks

Batch = tuple[Tensor, Tensor]
SPLITS = ("train", "validation", "test")


class Classifier(GuardedNetwork):
    """A network that trains; the regimes are its subclasses.

    It logs `<split>/loss`, `<split>/accuracy`, `<split>/auroc` and `<split>/f1` for train, validation and test.
    The training loss is what is minimised, that of validation and test plain cross-entropy. Before each training
    batch it seeds torch from (seed, epoch, batch), so that dropout, too, is the same whether or not the run was
    stopped in between.

    Args:
        backbone: The network's name in torchvision.
        weights: A torchvision weights name, a path, "bundled", or None for random; see `Backbone`. A checkpoint
            records None here, since it holds the weights itself.
        last_stage: The last stage of the backbone that is kept; all where it is not given.
        num_classes: K.
        image_size: H and W of the images, in pixels.
        pool: How the head takes the feature map: "flatten", "avg" or "max".
        hidden: Width of the head's hidden layer; 0 for none.
        dropout: Share of the hidden units that each training step leaves out.
        lr: Learning rate of the head.
        layer_decay: Factor of the learning rate from the head to the last stage of the backbone, and from each stage to
            the one before it.
        weight_decay: AdamW's; biases and norms have none.
        warmup_steps: Over how many optimizer steps the rate of a stage rises, from its own unfreeze on.
        scheduler: "cosine", "one_cycle", "plateau" or any class of `torch.optim.lr_scheduler`; None for constant
            rates.
        scheduler_options: The scheduler's arguments; the length of the run is filled in.
        scheduler_interval: Whether it counts "step"s or "epoch"s; where it is not given, steps for cosine and
            one-cycle, epochs for the others.
        scheduler_monitor: The validation score that a plateau is judged by.
        label_smoothing: Share of the label that is spread evenly over all classes.
        class_weights: K factors of the loss, or "balanced": N / (K · samples of the class).
        head_from: A checkpoint whose head is taken: of a feature extraction on the same backbone.
        init_from: A checkpoint whose backbone and head are taken; `weights` are not looked for then.
        seed: Of dropout.
        audit_freezing: Compare every parameter and buffer as `FreezeAudit` does.

    Raises:
        BackboneError: See `Network`.
        ModuleError: See `Network`; or an argument that is out of range.
    """

    def __init__(
        self,
        backbone: str = "vgg16",
        weights: str | None = "DEFAULT",
        last_stage: str | None = None,
        num_classes: int = 2,
        image_size: int = 150,
        pool: Pool = "flatten",
        hidden: int = 256,
        dropout: float = 0.5,
        lr: float = 1e-4,
        layer_decay: float = 0.5,
        weight_decay: float = 1e-2,
        warmup_steps: int = 0,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        scheduler_interval: Interval | None = None,
        scheduler_monitor: str = "validation/loss",
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        head_from: str | None = None,
        init_from: str | None = None,
        seed: int = 0,
        audit_freezing: bool = True,
    ) -> None:
        super().__init__(
            backbone, weights, last_stage, num_classes, image_size, pool, hidden, dropout, head_from, init_from
        )
        self.save_hyperparameters()
        self.lr = lr
        self.seed = seed
        self.scores = nn.ModuleDict({f"{split}_scores": EpochScores(split, num_classes) for split in SPLITS})
        self.loss = TrainingLoss(num_classes, label_smoothing, class_weights)
        self._train_scores: dict[str, Tensor] = {}
        self._optimized_lr = lr
        self._resumes_between_epochs = True
        if not 0 < layer_decay <= 1:
            raise ModuleError(f"layer_decay={layer_decay}: wanted a factor above 0, at most 1.")
        if scheduler_monitor not in self._scores("validation").names:
            names = ", ".join(self._scores("validation").names)
            raise ModuleError(f"scheduler_monitor={scheduler_monitor!r}: wanted one of {names}.")
        self.configure_backbone()

    def configure_backbone(self) -> None:
        """Where a regime says which part of the backbone never trains."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        inputs, labels = batch
        logits = self(inputs)
        self._scores("train").add(logits, labels)
        loss: Tensor = self.loss(logits, labels)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Keeps the logits of a batch for the epoch's scores, and gives them to callbacks that draw."""
        logits: Tensor = self(batch[0])
        self._scores("validation").add(logits, batch[1])
        return logits

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the logits of a batch for the epoch's scores."""
        self._scores("test").add(self(batch[0]), batch[1])

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """(B, K) probabilities."""
        return cast(Tensor, self(batch[0])).float().softmax(dim=1)

    def configure_callbacks(self) -> Sequence[Callback]:
        """The audit, unless none is wanted, and the history; not where the Trainer has its own."""
        wanted = [FreezeAudit, History] if self.hparams["audit_freezing"] else [History]
        return [kind() for kind in wanted if not find_callbacks(self.trainer, kind)]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on all stages, frozen or not, and the schedule of their rates."""
        options = self.hparams
        groups = parameter_groups(self.stages, self.lr, options["layer_decay"], options["weight_decay"])
        # One pass over memory in place of ten; but Lightning's float16 scaler cannot clip gradients with it.
        fused = self.trainer.precision != "16-mixed"
        optimizer = AdamW(groups, fused=fused)
        self._optimized_lr = self.lr
        schedule = lr_schedule(
            optimizer,
            options["scheduler"],
            options["scheduler_options"] or {},
            options["scheduler_interval"],
            options["warmup_steps"],
            self.trainer.estimated_stepping_batches if options["scheduler"] else 0,
            self.trainer.max_epochs or 0,
        )
        if schedule is None:
            return optimizer
        # Lightning's types name torch's own schedulers alone; what it asks for are their methods.
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cast(Any, schedule), "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Steps the schedule, which is none of torch's own classes, as Lightning would."""
        scheduler.step()

    def setup(self, stage: str) -> None:
        """Counts the classes, where they are to be balanced.

        Raises:
            ModuleError: Nobody has counted them; or see `Network`.
        """
        super().setup(stage)
        if stage != "fit" or not self.loss.balanced:
            return
        counts = getattr(getattr(self.trainer, "datamodule", None), "class_counts", None)
        if counts is None:
            raise ModuleError(
                'class_weights="balanced" needs a data module that has class_counts(split), as those of this '
                "library do: pass one, or a weight for each class."
            )
        self.loss.balance(counts("train"))

    def on_fit_start(self) -> None:
        """Takes over a rate that a finder has found, and refuses to go on from the middle of an epoch.

        Raises:
            ModuleError: The checkpoint was saved in the middle of an epoch.
        """
        self.train()  # after a fit or a prediction before this one parts are in eval mode, and nobody else would
        if self.trainer.ckpt_path is not None and not self._resumes_between_epochs:
            raise ModuleError(
                f"{self.trainer.ckpt_path} was saved in the middle of an epoch, from where a run cannot go on as "
                "if it had not been stopped: resume from a checkpoint of an epoch's end (ModelCheckpoint without "
                "every_n_train_steps), or begin a new run with init_from."
            )
        if self.lr != self._optimized_lr:
            # A finder gives every group the same rate, and nothing of it to the schedule.
            self.trainer.strategy.setup_optimizers(self.trainer)

    def on_train_epoch_start(self) -> None:
        """Brings what is frozen into eval mode here, since Lightning sets modes of its own around validation."""
        self._scores("train").reset()
        for stage in self.backbone.stages.values():
            stage.train(is_trainable(stage))

    def on_validation_epoch_start(self) -> None:
        """Forgets what an epoch that was broken off may have left."""
        self._scores("validation").reset()

    def on_test_epoch_start(self) -> None:
        """Forgets what an epoch that was broken off may have left."""
        self._scores("test").reset()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seeds torch, so that a step's randomness depends on nothing before it."""
        entropy = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
        # torch.manual_seed would note a traceback for each kind of device that is not in use: a third of a step.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Computes the training scores with the last batch, so that a checkpoint after validation has them.

        Raises:
            TrainingError: The loss is no number any more.
        """
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.is_last_batch:
            self._train_scores = self._scores("train").compute(self.loss)
            self.check_finite("training loss", self._train_scores["train/loss"])

    def on_train_epoch_end(self) -> None:
        """Logs the training scores."""
        self._log_scores(self._train_scores or self._scores("train").compute(self.loss))
        self._train_scores = {}
        schedule = self._lr_schedule()
        if schedule is not None:
            schedule.epoch_end()

    def on_validation_epoch_end(self) -> None:
        """Logs the validation scores; the sanity check's few batches have none worth the name."""
        if self.trainer.sanity_checking:
            return
        scores = self._scores("validation").compute(F.cross_entropy)
        if self.trainer.state.fn is TrainerFn.FITTING:
            self.check_finite("validation loss", scores["validation/loss"])
        self._log_scores(scores)
        schedule = self._lr_schedule()
        if schedule is not None and self.trainer.state.fn is TrainerFn.FITTING:
            schedule.validation_end(float(scores[self.hparams["scheduler_monitor"]]))

    def on_test_epoch_end(self) -> None:
        """Logs the test scores."""
        self._log_scores(self._scores("test").compute(F.cross_entropy))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the epoch's training scores, which are logged only after validation has saved."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["train_scores"] = self._train_scores

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them back, and notes whether a run can go on from there exactly."""
        super().on_load_checkpoint(checkpoint)
        self._train_scores = checkpoint.get("train_scores", {})
        self._resumes_between_epochs = between_epochs(checkpoint)

    def _scores(self, split: str) -> EpochScores:
        return cast(EpochScores, self.scores[f"{split}_scores"])

    def _log_scores(self, scores: dict[str, Tensor]) -> None:
        for name, value in scores.items():
            # They are those of all processes already; sync_dist only tells Lightning so.
            self.log(name, value, prog_bar=name.endswith(("/loss", "/accuracy")), sync_dist=True)

    def _lr_schedule(self) -> StageLRScheduler | None:
        # A finder puts a schedule of its own in the place of ours.
        schedules: list[Any] = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return next((schedule for schedule in schedules if isinstance(schedule, StageLRScheduler)), None)
