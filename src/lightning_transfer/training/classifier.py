"""What all regimes share in training: network, steps, scores, optimizer, checkpoints.

Shapes: B batch, C channels, H W image, h w feature map, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, ClassVar, Self, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_transfer.callbacks.freeze_audit import FreezeAudit
from lightning_transfer.callbacks.history import History
from lightning_transfer.callbacks.step_seeds import StepSeeds
from lightning_transfer.callbacks.stop_on_non_finite import StopOnNonFinite, check_finite
from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import Stages, parameter_groups
from lightning_transfer.models.head import Head
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.network import HEAD, TransferNetwork
from lightning_transfer.models.pooling import Pool
from lightning_transfer.models.weights import do_weights_follow
from lightning_transfer.training.batches import Batch, check_inputs, checked_labels, unpacked
from lightning_transfer.training.checkpoint_io import between_epochs, check_file, check_folders, read_checkpoint
from lightning_transfer.training.checkpoints import (
    BACKBONE,
    CLASS_KEY,
    LAYERS,
    ORIGINS,
    VERSION_KEY,
    check_resumable,
    check_same_backbone,
    check_same_network,
    class_path,
    load_part,
    part_of,
    upgrade,
    version,
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
from lightning_transfer.training.extra_state import allow_absent, leave_out, pack, unpack
from lightning_transfer.training.head_start import HeadStart
from lightning_transfer.training.lr_schedule import Interval, StageLRScheduler, lr_schedule
from lightning_transfer.training.module_arguments import checked
from lightning_transfer.training.optimizers import make_optimizer, may_fuse
from lightning_transfer.training.resuming import DATA_KEY, check_resumed, data_arguments
from lightning_transfer.training.task import TASKS, ClassWeights, EpochScores, TaskName, watched
from lightning_transfer.utils.batch_norm import has_batch_norm
from lightning_transfer.utils.lightning import find_callbacks, finds_rate, steps_per_epoch


class Classifier(LightningModule):
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
        self.register_load_state_dict_pre_hook(allow_absent)  # type: ignore[no-untyped-call]  # torch's
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
            self._build(num_classes, image_size, task)
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
        self._ensure_built()
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
        self._log_scores(self._train_scores or self._scores("train").compute())
        self._train_scores = {}
        schedule = self._lr_schedule()
        if schedule is not None:
            schedule.epoch_end()

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores; skip the sanity check."""
        if self.trainer.sanity_checking:
            return
        scores = self._scores("validation").compute()
        self._log_scores(scores)
        schedule = self._lr_schedule()
        if schedule is not None and schedule.watches and self.trainer.state.fn is TrainerFn.FITTING:
            schedule.validation_end(watched(scores, self.hparams["scheduler_monitor"]))

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores(self._scores("test").compute())

    def get_extra_state(self) -> Tensor:
        """Return what the data said, which then goes wherever the state dict goes.

        Strategies that spawn processes set up the module in those alone, and bring back its state dict.
        """
        if self.network.head is None:
            return pack({})
        said = {name: self.hparams[name] for name in ("num_classes", "image_size", "task")}
        known = {name: getattr(self, name) for name in ("class_names", "resize", "decoding", "pretrained_weights")}
        return pack(said | known)

    def set_extra_state(self, state: Tensor) -> None:
        """Take back what `get_extra_state` gave; make the head, if there is none, for the weights to come."""
        said = unpack(state)
        if not said:
            return
        if self.network.head is None:
            with torch.random.fork_rng(devices=[]):
                self._build(said["num_classes"], said["image_size"], said["task"])
        elif said["task"] is not None:
            self._set_task(said["task"])
        self.class_names = None if said["class_names"] is None else tuple(said["class_names"])
        self.resize, self.decoding = said["resize"], said["decoding"]
        self.pretrained_weights = said["pretrained_weights"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint enough: what the data said is inside, and no file has to be looked for."""
        leave_out(checkpoint)
        checkpoint[VERSION_KEY] = version()
        checkpoint[CLASS_KEY] = class_path(type(self))
        checkpoint["class_names"] = self.class_names
        checkpoint["resize"] = self.resize
        checkpoint.update(self.decoding)
        checkpoint["pretrained_weights"] = self.pretrained_weights
        plain = {
            name: str(value) if isinstance(value, Path) else value  # a subclass's; plain values alone are read
            for name, value in checkpoint["hyper_parameters"].items()
        }
        checkpoint["hyper_parameters"] = {**plain, "task": self.task_name, **dict.fromkeys(ORIGINS)}
        checkpoint["train_scores"] = self._train_scores  # logged only after validation has saved
        checkpoint[DATA_KEY] = data_arguments(getattr(self._trainer, "datamodule", None))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what `on_save_checkpoint` has put in.

        Raises:
            ModuleError: The checkpoint is not this library's, of other classes than the data, of a version that
                this one can test but not resume, or of arguments that cannot change when a run resumes.
        """
        trainer = self._trainer
        resumes = trainer is not None and trainer.state.fn is TrainerFn.FITTING
        if trainer is not None and resumes:
            check_resumable(checkpoint, trainer.ckpt_path)
        upgrade(checkpoint)
        self.class_names = checked_names(self.class_names, checkpoint["class_names"])
        if trainer is not None and resumes:
            self._resume(checkpoint, trainer)
        self.resize = checkpoint["resize"]
        # What the data of this run have said goes before what an earlier run's have.
        self.decoding = self.decoding or decoding_of(None, checkpoint)
        self.pretrained_weights = checkpoint["pretrained_weights"]
        self._train_scores = checkpoint.get("train_scores", {})
        self._resumes_between_epochs = between_epochs(checkpoint)

    @_restricted_classmethod
    def load_from_checkpoint(  # noqa: D417  # the other arguments are Lightning's
        cls,  # noqa: N805
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **arguments: Any,
    ) -> Self:
        """Load as Lightning does, but only a local file as it was saved, and without running code in it.

        Args:
            weights_only: False to run code that the file may hold.
            **arguments: In place of the checkpoint's own.

        Raises:
            ModuleError: There is no such file, or it is not as it was saved; names it.
        """
        if isinstance(checkpoint_path, str | Path):
            check_file(str(checkpoint_path))
        # A file may name a function there, which would call any class that the arguments name.
        arguments["_instantiator"] = None
        safely = weights_only is not False
        return super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, safely, **arguments
        )

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

    def _resume(self, checkpoint: dict[str, Any], trainer: Trainer) -> None:
        """Say what this run has otherwise than the checkpoint's, and let its optimizer be this run's."""
        data = getattr(trainer, "datamodule", None)
        arguments = {**self.hparams, "task": self.task_name}
        if changes := check_resumed(checkpoint, arguments, data, trainer.ckpt_path):
            rank_zero_info(changes)
        # An optimizer's state says how its steps are computed, too, which may not go with this run's precision.
        for state in checkpoint.get("optimizer_states", ()):
            for group in state["param_groups"]:
                if group.get("fused"):
                    group["fused"] = may_fuse(trainer) or None

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

    def _set_task(self, name: TaskName) -> None:
        self.save_hyperparameters({"task": name})
        options = self.hparams
        self.task = TASKS[name](self.num_classes, options["label_smoothing"], options["class_weights"])
        self.network.activation = self.task.activation
        losses = {"train": self.task.training_loss, "validation": self.task.loss, "test": self.task.loss}
        self.scores = {split: EpochScores(split, self.task, loss) for split, loss in losses.items()}

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

    def _scores(self, split: str) -> EpochScores:
        return self.scores[split]

    def _log_scores(self, scores: dict[str, Tensor]) -> None:
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
