"""Checkpoints of a module: what they hold besides weights, and what a run takes back from them."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Self

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from torch import Tensor

from lightning_transfer.training.checkpoint_io import between_epochs, check_file
from lightning_transfer.training.checkpoints import (
    CLASS_KEY,
    ORIGINS,
    VERSION_KEY,
    check_resumable,
    class_path,
    upgrade,
    version,
)
from lightning_transfer.training.data_contract import checked_names, decoding_of
from lightning_transfer.training.extra_state import leave_out, pack, unpack
from lightning_transfer.training.head_start import HeadStart
from lightning_transfer.training.optimizers import may_fuse
from lightning_transfer.training.resuming import DATA_KEY, check_resumed, data_arguments
from lightning_transfer.training.scored_module import ScoredModule
from lightning_transfer.training.task import TaskName


class SavedModule(ScoredModule):
    """Make a checkpoint enough: no network, no file and no repeated argument is needed beside it.

    Attributes:
        class_names: K names, from the data module.
        resize: How the data module resizes images, "squash" or "crop".
        decoding: How it decodes them, as far as it says: "max_pixels", "bit_depth".
        pretrained_weights: Where the backbone's weights came from.
    """

    class_names: tuple[str, ...] | None
    resize: str | None
    decoding: dict[str, int]
    pretrained_weights: str | None
    _resumes_between_epochs: bool
    _head_start: HeadStart | None

    def _build(self, num_classes: int, image_size: int, task: TaskName | None) -> None:
        """Make head and task."""
        raise NotImplementedError

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
        self._head_start = None  # the weights to come have begun

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
        # A run that fails before set-up, and saves by OnExceptionCheckpoint, has no head and no task.
        task = plain["task"] if self.network.head is None else self.task_name
        checkpoint["hyper_parameters"] = {**plain, "task": task, **dict.fromkeys(ORIGINS)}
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
