"""Unfreeze the next stage when a score stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from lightning_transfer.callbacks.schedule import stages_of
from lightning_transfer.callbacks.staged_unfreeze import StagedUnfreeze
from lightning_transfer.callbacks.stopping import wait_afresh
from lightning_transfer.errors import ScheduleError

Mode = Literal["min", "max"]
Weights = dict[str, dict[str, Tensor]]  # by stage


class AdaptiveUnfreeze(StagedUnfreeze):
    """Unfreeze the next stage when a score has not improved for some epochs, or after a number of epochs.

    It decides when validation ends, for the next epoch on. The decision is kept as the epoch from which the stage
    trains, and saved in checkpoints: what trains is a function of the epoch here, too.

    Args:
        stages: The steps, from the head towards the input; the stages of a list unfreeze together.
        monitor: The score, which validation must log.
        mode: Whether lower ("min") or higher ("max") is better.
        min_delta: The smallest change that counts as an improvement.
        patience: Epochs without an improvement after which the next step follows.
        max_epochs_per_step: Epochs after which it follows in any case: a number for every step, or one for each
            stage by name.
        restore_best: Go back to the weights of the best score before each step: those that were scored, also where
            a callback averages weights and validates the averages. The optimizer keeps its moments.
        train_norm: See `StagedUnfreeze`.

    Raises:
        ScheduleError: See `StagedUnfreeze`; or validation does not log the score.
    """

    def __init__(
        self,
        stages: list[str | list[str]],
        monitor: str = "validation/loss",
        mode: Mode = "min",
        min_delta: float = 0.0,
        patience: int = 2,
        max_epochs_per_step: int | dict[str, int] | None = None,
        restore_best: bool = False,
        train_norm: bool = True,
    ) -> None:
        steps = [[step] if isinstance(step, str) else list(step) for step in stages]
        super().__init__(dict(enumerate(steps)), train_norm)
        if mode not in get_args(Mode):
            raise ScheduleError(f"mode={mode!r}: wanted min or max.")
        if patience < 1:
            raise ScheduleError(f"patience={patience}: wanted a whole number from 1 on.")
        if isinstance(max_epochs_per_step, Mapping) and (
            unknown := sorted(set(max_epochs_per_step) - set(self.starts))
        ):
            raise ScheduleError(
                f"max_epochs_per_step names {', '.join(unknown)}; stages has {', '.join(self.starts)}."
            )
        limits = (
            max_epochs_per_step.values()
            if isinstance(max_epochs_per_step, Mapping)
            else []
            if max_epochs_per_step is None
            else [max_epochs_per_step]
        )
        if any(limit < 1 for limit in limits):
            raise ScheduleError(f"max_epochs_per_step={max_epochs_per_step}: wanted whole numbers from 1 on.")
        self.monitor = monitor
        self.mode: Mode = mode
        self.min_delta = min_delta
        self.patience = patience
        self.max_epochs_per_step = max_epochs_per_step
        self.restore_best = restore_best
        self._best_weights: Weights | None = None
        self._scored: Weights | None = None
        self._go_back = False
        self._begin()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a checkpoint must have too, as plain values."""
        return {
            "stages": [list(step) for step in self.steps],
            "monitor": self.monitor,
            "mode": self.mode,
            "min_delta": self.min_delta,
            "patience": self.patience,
            "max_epochs_per_step": dict(self.max_epochs_per_step)
            if isinstance(self.max_epochs_per_step, Mapping)
            else self.max_epochs_per_step,
            "restore_best": self.restore_best,
            "train_norm": self.train_norm,
        }

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the settings, and start with the first step."""
        if stage == "fit" and not trainer.enable_validation:
            raise ScheduleError(
                "AdaptiveUnfreeze decides when validation ends, and there is none: give the module a "
                "validation_step, and the Trainer a limit_val_batches above 0; or use StagedUnfreeze with epochs."
            )
        if stage == "fit" and trainer.current_epoch == 0:
            self._begin()
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set what trains; at a new step, restore the best weights first, if asked to."""
        super().on_train_epoch_start(trainer, pl_module)
        if self._go_back and self._best_weights is not None:
            stages = stages_of(pl_module)
            for name in self.trained_stages(trainer.current_epoch - 1):
                _restore(stages[name], self._best_weights[name])
        self._go_back = False
        if len(self.starts) == len(self.planned):
            self._best_weights = None  # checkpoints need not carry what no step will go back to

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Copy the weights that are scored: averages are in place now, and gone when validation ends."""
        first = batch_idx == dataloader_idx == 0
        steps_to_come = self._go_back or len(self.starts) < len(self.planned)
        if first and self.restore_best and steps_to_come and _decides(trainer):
            stages = stages_of(pl_module)
            self._scored = {name: _copy(stages[name]) for name in self.planned}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide on rank 0, for all ranks."""
        if not _decides(trainer):
            return
        scored, self._scored = self._scored, None
        if self.monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ScheduleError(f"monitor={self.monitor!r} is not logged by validation, which logs {names}.")
        score = trainer.strategy.broadcast(float(trainer.callback_metrics[self.monitor]))
        epoch = trainer.current_epoch
        if self._better(score):
            self._best, self._best_epoch, self._best_weights = score, epoch, scored
        began = max(self.starts.values())
        if began > epoch or len(self.starts) == len(self.planned):
            return  # decided already, where there are several validations an epoch; or nothing is left
        if epoch - max(self._best_epoch, began - 1) >= self.patience or epoch - began + 1 >= self._limit():
            self._unfreeze_next(epoch + 1)
            wait_afresh(trainer)  # or EarlyStopping might end the run before the step that was just decided

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, to be compared at resume, and the decisions so far."""
        decided = {
            "starts": dict(self.starts),
            "best": self._best,
            "best_epoch": self._best_epoch,
            "best_weights": self._best_weights,
            "go_back": self._go_back,
        }
        return {**self.settings, "decided": decided}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the decisions; refuse other settings.

        Raises:
            ScheduleError: It shows both.
        """
        super().load_state_dict(state_dict)
        if not self._fits:
            return
        decided = state_dict["decided"]
        self.starts = dict(decided["starts"])
        self._best, self._best_epoch = decided["best"], decided["best_epoch"]
        self._best_weights, self._go_back = decided["best_weights"], decided["go_back"]

    def _begin(self) -> None:
        self.starts = dict.fromkeys(self.steps[0], 0)
        self._best = math.inf if self.mode == "min" else -math.inf
        self._best_epoch = -1
        self._best_weights = self._scored = None
        self._go_back = False

    def _better(self, score: float) -> bool:
        gain = self._best - score if self.mode == "min" else score - self._best
        return gain > self.min_delta

    def _limit(self) -> float:
        """Return the current step's maximum number of epochs."""
        current = next(step for step in reversed(self.steps) if step[0] in self.starts)
        if isinstance(self.max_epochs_per_step, Mapping):
            return min(
                (self.max_epochs_per_step[name] for name in current if name in self.max_epochs_per_step),
                default=math.inf,
            )
        return math.inf if self.max_epochs_per_step is None else self.max_epochs_per_step

    def _unfreeze_next(self, epoch: int) -> None:
        following = next(step for step in self.steps if step[0] not in self.starts)
        self.starts |= dict.fromkeys(following, epoch)
        self._go_back = self.restore_best


def _decides(trainer: Trainer) -> bool:
    return trainer.state.fn is TrainerFn.FITTING and not trainer.sanity_checking


def _copy(stage: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in stage.state_dict().items()}


def _restore(stage: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights, but for layers in which nothing trains: averages of constants are only nearly the same."""
    constant = {
        name
        for name, layer in stage.named_modules()
        if (own := list(layer.parameters(recurse=False))) and not any(parameter.requires_grad for parameter in own)
    }
    kept = {key: value for key, value in weights.items() if key.rpartition(".")[0] not in constant}
    stage.load_state_dict(kept, strict=False)
