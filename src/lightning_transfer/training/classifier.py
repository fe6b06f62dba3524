"""What all regimes share in training: arguments, network, optimizer, and what the data module says.

Shapes: B batch, C channels, H W image, h w feature map, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_transfer.callbacks.freeze_audit import FreezeAudit
from lightning_transfer.callbacks.history import History
from lightning_transfer.callbacks.step_seeds import StepSeeds
from lightning_transfer.callbacks.stop_on_non_finite import StopOnNonFinite
from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import Stages, parameter_groups
from lightning_transfer.models.head import Head
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.network import HEAD, TransferNetwork
from lightning_transfer.models.pooling import Pool
from lightning_transfer.models.weights import do_weights_follow
from lightning_transfer.training.checkpoint_io import check_folders, read_checkpoint
from lightning_transfer.training.checkpoints import (
    BACKBONE,
    LAYERS,
    ORIGINS,
    check_same_backbone,
    check_same_network,
    load_part,
    part_of,
    upgrade,
)
from lightning_transfer.training.data_contract import (
    balance,
    check_agreement,
    checked_names,
    decoding_of,
    input_stage,
    sizes_of,
    task_of,
)
from lightning_transfer.training.foreign_callbacks import copy_again, refuse_callbacks
from lightning_transfer.training.handed_back import hand_back
from lightning_transfer.training.head_start import HeadStart
from lightning_transfer.training.lr_schedule import Interval, lr_schedule
from lightning_transfer.training.module_arguments import checked
from lightning_transfer.training.optimizers import make_optimizer, may_fuse
from lightning_transfer.training.saved_module import SavedModule
from lightning_transfer.training.task import ClassWeights, TaskName
from lightning_transfer.utils.batch_norm import has_batch_norm
from lightning_transfer.utils.lightning import find_callbacks, steps_per_epoch


class Classifier(SavedModule):
    """A backbone that never trains, and a head that does; the regimes are the subclasses.

    It logs `<split>/loss`, `<split>/accuracy`, `<split>/auroc` and `<split>/f1` for train, validation and test.
    The training loss is what is minimised; that of validation and test has no smoothing and no class weights.

    A checkpoint is enough: it holds backbone, head, class names, image size, resizing and how files are decoded.

    Args:
        backbone: The network's name; see `Backbone`.
        weights: A weights name, a path, "bundled", or None for random; see `Backbone`. A checkpoint records None
            here, since it holds the weights.
        last_stage: The last stage of the backbone to keep; None for all.
        num_classes: K; None for the data module's.
        image_size: H and W of the images, in pixels; None for the data module's, and where that has None, too, for
            the backbone's native size.
        pool: How the head takes the features: "flatten", "avg", "max", "class_token", "class_token+avg" or
            "native"; see `Head`.
        hidden: Width of the head's hidden layer; 0 for none.
        dropout: Share of the hidden units that each training step leaves out.
        lr: Learning rate of the head.
        layer_decay: Factor of the learning rate from the head to the last stage of the backbone, and from each
            stage to the one before it.
        weight_decay: The optimizer's; biases and norms have none.
        optimizer: A class of `torch.optim`.
        optimizer_options: Its further arguments.
        warmup_steps: Over how many optimizer steps the learning rate of a stage rises, from its own unfreezing on.
        scheduler: "cosine", "one_cycle", "plateau" or any class of `torch.optim.lr_scheduler`; None for constant
            learning rates.
        scheduler_options: The scheduler's arguments; the length of the run is filled in.
        scheduler_interval: Whether it counts "step"s or "epoch"s; None for steps with cosine and one-cycle, epochs
            with the others.
        scheduler_monitor: The validation score that a plateau watches.
        label_smoothing: Share of the label that is spread evenly over all classes.
        class_weights: K factors of the loss, or "balanced".
        task: "single_label" or "multi_label"; None for the data module's.
        head_from: A checkpoint to take the head from, of a feature extraction on the same backbone.
        init_from: A checkpoint to take backbone and head from; `weights` are not looked for then. Where the data
            have other classes, its rows of those that both have; see `HeadStart`.
        seed: Of dropout.
        audit_freezing: Bring along `FreezeAudit`.

    Attributes:
        network: Backbone and head, plain torch.
        class_names: K names, from the data module.
        resize: How the data module resizes images, "squash" or "crop".
        decoding: How it decodes them, as far as it says: "max_pixels", "bit_depth".
        pretrained_weights: Where the backbone's weights came from.
        input_stage: What a batch of the current data module is: None for images, else features that enter the
            network at this stage.

    Raises:
        BackboneError: See `Backbone`.
        ModuleError: An argument out of range, or a checkpoint to start from that does not fit.
    """

    unfreezes: ClassVar[bool] = False  # whether stages of the backbone may come to train

    def __init__(
        self,
        backbone: str = "vgg16",
        *,
        weights: str | Path | None = "DEFAULT",
        last_stage: str | None = None,
        num_classes: int | None = None,
        image_size: int | None = None,
        pool: Pool = "flatten",
        hidden: int = 256,
        dropout: float = 0.5,
        lr: float = 1e-4,
        layer_decay: float = 0.5,
        weight_decay: float = 1e-2,
        optimizer: str = "AdamW",
        optimizer_options: dict[str, Any] | None = None,
        warmup_steps: int = 0,
        scheduler: str | None = None,
        scheduler_options: dict[str, Any] | None = None,
        scheduler_interval: Interval | None = None,
        scheduler_monitor: str = "validation/loss",
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        task: TaskName | None = None,
        head_from: str | Path | None = None,
        init_from: str | Path | None = None,
        seed: int = 0,
        audit_freezing: bool = True,
    ) -> None:
        super().__init__()
        hand_back(self)
        self.save_hyperparameters()
        self.save_hyperparameters(checked(self.hparams))
        files: dict[str, str | None] = {name: self.hparams[name] for name in ORIGINS}
        self.lr = float(self.hparams["lr"])
        self.pretrained_weights = files["weights"]
        self.class_names: tuple[str, ...] | None = None
        self.resize: str | None = None
        self.decoding: dict[str, int] = {}
        self.input_stage: str | None = None
        self._train_scores: dict[str, Tensor] = {}
        self._optimized_lr = self.lr
        self._resumes_between_epochs = True
        self._start: dict[str, Any] | None = None
        self._head_start: HeadStart | None = None
        self._checked_stages: set[str] = set()
        # Random weights would take seconds to draw, only to be replaced.
        with meta_init() if files["init_from"] else nullcontext():
            pretrained = None if files["init_from"] else files["weights"]
            self.network = TransferNetwork(Backbone(backbone, pretrained, last_stage))
        if not self.unfreezes:
            self.backbone.requires_grad_(False)
        if files["init_from"] or files["head_from"]:
            self._read_start()
        if num_classes is not None and image_size is not None:
            self._build(self.num_classes, self.image_size, task)
        else:
            # Drawn now, so that the head does not depend on what happens before set-up, such as an extraction.
            self._head_seed = int(torch.randint(2**62, ()))

    @property
    def backbone(self) -> Backbone:
        """The pretrained network without its classifier."""
        return self.network.backbone

    @property
    def head(self) -> nn.Module:
        """The classifier on the backbone."""
        return self.stages[HEAD]

    @property
    def stages(self) -> Stages:
        """The stages that may train, from the input to the output; callbacks and the optimizer go by them."""
        self._ensure_built()
        return {HEAD: self.network.stages[HEAD]}

    @property
    def trains_batch_norm(self) -> bool:
        """Whether BatchNorm layers train in this run; a data module then serves no batch of one image."""
        return any(map(has_batch_norm, self.stages.values()))

    def build_head(self) -> nn.Module:
        """Make the head; override for another one, from `self.backbone`, `self.num_classes`, `self.image_size`."""
        backbone, pool = self.backbone, self.hparams["pool"]
        return Head(
            backbone.out_shape(self.image_size),
            self.num_classes,
            pool,
            self.hparams["hidden"],
            self.hparams["dropout"],
            backbone.prefix_tokens,
            backbone.native_pool() if pool == "native" else None,
        )

    def cached_backbone(self, trainer: Trainer, cache_prefix: bool = False) -> Backbone | None:
        """Return the part of the backbone whose outputs are stored before training; None to train on images.

        Args:
            trainer: The one that will fit.
            cache_prefix: Whether to store also what only never trains in this run.
        """
        return None

    def default_callbacks(self) -> list[Callback]:
        """Make the callbacks that this module brings along, unless the Trainer has one of the same class."""
        audit: list[Callback] = [FreezeAudit()] if self.hparams["audit_freezing"] else []
        return [*audit, StepSeeds(self.hparams["seed"]), StopOnNonFinite(), History()]

    def configure_callbacks(self) -> Sequence[Callback]:
        """Bring along `default_callbacks`; called by Lightning."""
        return [made for made in self.default_callbacks() if not find_callbacks(self.trainer, type(made))]

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute (B, K) logits of images (B, 3, H, W), or of features where the data module serves those."""
        if self.input_stage is None:
            logits: Tensor = self.network(inputs)
            return logits
        return self.network.forward_from(self.input_stage, inputs)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer on all stages, frozen or not, and the schedule of their learning rates."""
        options, trainer = self.hparams, self.trainer
        groups = parameter_groups(self.stages, self.lr, options["layer_decay"], options["weight_decay"])
        fused = may_fuse(trainer)
        optimizer = make_optimizer(options["optimizer"], groups, options["optimizer_options"] or {}, fused)
        self._optimized_lr = self.lr
        steps = trainer.estimated_stepping_batches if options["scheduler"] else 0
        schedule = lr_schedule(
            optimizer,
            options["scheduler"],
            options["scheduler_options"] or {},
            options["scheduler_interval"],
            options["warmup_steps"],
            steps,
            trainer.max_epochs or 0,
            steps_per_epoch(trainer) if options["scheduler"] else 0,
        )
        # Lightning's types name torch's own schedulers alone; it asks for their methods.
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cast(Any, schedule), "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule, which is not a class of torch's, as Lightning would."""
        scheduler.step()

    def setup(self, stage: str) -> None:
        """Take from the data module what it knows: classes, image size, resizing, and what a batch is.

        Raises:
            ModuleError: It contradicts the module's arguments or its checkpoint, or says nothing where it must.
        """
        had_head = self.network.head is not None
        self._ensure_built()
        if stage == "fit":
            refuse_callbacks(self.trainer)
            if not had_head:
                copy_again(self.trainer, self, stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        check_agreement(data, self.hparams)
        if (task := task_of(data)) is not None:
            self._set_task(task)
        names = getattr(data, "class_names", None)
        if self._head_start is not None:
            self.class_names = self._head_start.name_classes(
                self.head, names, self.hparams["task"] or "single_label"
            )
            self._head_start = None
        self.class_names = checked_names(names, self.class_names)
        self.resize = getattr(data, "resize", self.resize)
        self.decoding = decoding_of(data, self.decoding)
        self.input_stage = input_stage(data, self.backbone)
        self._checked_stages.clear()
        if stage != "fit":
            return
        self._warn_of_left_out()
        check_folders(self.trainer)
        if self.task.balanced:
            balance(self.task, data)

    def teardown(self, stage: str) -> None:
        """Take images again, after a run on stored features."""
        self.input_stage = None

    def on_fit_start(self) -> None:
        """Apply a learning rate that a finder has found, and refuse to resume from the middle of an epoch.

        Raises:
            ModuleError: The checkpoint was saved in the middle of an epoch.
        """
        self.leave_eval_mode()
        if isinstance(self.head, Head):
            # Its eval mode comes with the first epoch; earlier, Lightning would warn.
            for part in self.head.pool.modules():
                part.training = True
        if self.trainer.ckpt_path is not None and not self._resumes_between_epochs:
            raise ModuleError(
                f"{self.trainer.ckpt_path} was saved in the middle of an epoch, from where a run cannot continue "
                "as if it had not been stopped: resume from a checkpoint of an epoch's end (ModelCheckpoint "
                "without every_n_train_steps), or begin a new run with init_from."
            )
        if self.lr != self._optimized_lr:
            # A finder gives every group the same learning rate, and does not tell the schedule.
            self.trainer.strategy.setup_optimizers(self.trainer)

    def leave_eval_mode(self) -> None:
        """Set training mode at a fit's start; an earlier fit or a prediction may have left parts in eval mode."""
        self.train()

    def on_train_epoch_start(self) -> None:
        """Put the frozen backbone into eval mode, since Lightning sets modes of its own around validation."""
        self._scores("train").reset()
        self.backbone.eval()
        if isinstance(self.head, Head):
            self.head.hold_pool()

    def _warn_of_left_out(self) -> None:
        """Say so where a subclass's `configure_callbacks` leaves out what this module brings along."""
        if type(self).configure_callbacks is Classifier.configure_callbacks:
            return
        brought = [type(made) for made in self.default_callbacks()]
        if left_out := [kind.__name__ for kind in brought if not find_callbacks(self.trainer, kind)]:
            rank_zero_warn(
                f"{type(self).__name__}.configure_callbacks leaves out {', '.join(left_out)}: override "
                "default_callbacks instead, or return them too, by super().configure_callbacks()."
            )

    def _ensure_built(self) -> None:
        """Make head and task, where the data module had to be asked for the number of classes first."""
        if self.network.head is not None:
            return
        data: Any = None if self._trainer is None else getattr(self._trainer, "datamodule", None)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._head_seed)
            self._build(*sizes_of(data, self.hparams), self.hparams["task"] or task_of(data))

    def _build(self, num_classes: int, image_size: int, task: TaskName | None) -> None:
        self.save_hyperparameters({"num_classes": num_classes, "image_size": image_size})
        self.network.head = self.build_head()
        self._set_task(task or "single_label")
        self.save_hyperparameters({"task": task})  # None until the data have said
        if self._start is not None:
            if path := self.hparams["init_from"]:
                self._head_start = HeadStart(self.head, num_classes, self._start, path)
                self.class_names = self._head_start.class_names
            else:
                path = self.hparams["head_from"]
                check_same_network(self._start, self.hparams, path)
                load_part(self.head, self._start, "network.head", path)
            self._start = None

    def _read_start(self) -> None:
        """Take the backbone from `init_from`, or check that of `head_from`; the head follows once it is made."""
        if do_weights_follow():
            return
        path = self.hparams["init_from"] or self.hparams["head_from"]
        self._start = read_checkpoint(path)
        upgrade(self._start, path)
        if self.hparams["init_from"]:
            check_same_network(self._start, self.hparams, path, (*BACKBONE, *LAYERS))
            load_part(self.backbone, self._start, "network.backbone", path, assign=True)
            self.backbone.load_native_pool(part_of(self._start, "network.head.pool"), path)
            self.backbone.to(memory_format=torch.channels_last)
            self.pretrained_weights = self._start["pretrained_weights"]
        else:
            check_same_network(self._start, self.hparams, path)
            check_same_backbone(self.backbone, self._start, path)
        self.class_names = self._start["class_names"]
