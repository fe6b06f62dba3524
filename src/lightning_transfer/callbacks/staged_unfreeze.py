"""Unfreeze stages by epoch."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_transfer.callbacks.freeze_audit import FreezeAudit
from lightning_transfer.callbacks.schedule import (
    check_optimizers,
    check_stages,
    check_trainer,
    in_order,
    in_words,
    stages_of,
)
from lightning_transfer.callbacks.stage_table import stage_rows, stage_table
from lightning_transfer.callbacks.stopping import wait_afresh, why_it_ended
from lightning_transfer.errors import ScheduleError
from lightning_transfer.models.freezing import NORMS, Stages, freeze, frozen_by_others, unfreeze
from lightning_transfer.utils.lightning import find_callbacks


class StagedUnfreeze(Callback):
    """Unfreeze stages by epoch, from the head towards the input.

    It works with any LightningModule that has `stages`, a mapping of names to modules from the input to the
    output, and whose optimizer has all their parameters from the start (see `parameter_groups`).

    What trains is a function of the epoch alone, set at each epoch's start, so that a resumed run continues as if
    it had not been stopped. Whenever it changes under DDP, the module is wrapped again, since DDP never
    synchronises what was frozen when it wrapped the module
    (https://github.com/Lightning-AI/pytorch-lightning/issues/20340).

    What somebody else has frozen inside a stage, before the fit or at each epoch's start, stays frozen when the
    stage unfreezes: parameters; and layers all of whose parameters are frozen, which stay in eval mode too. So do
    layers that were put into eval mode.

    EarlyStopping counts afresh whenever a stage unfreezes. A warning names the stages that never come, and why.

    Args:
        schedule: The stages that begin to train, by epoch. Their order is from the head towards the input, without
            a gap; the first step must be at epoch 0.
        train_norm: Whether normalisation layers train with their stage. If not, those of all stages but the last
            one, the head, which is new, stay as they were pretrained: parameters and running statistics.

    Raises:
        ScheduleError: At once, for a malformed schedule; at set-up, where it does not fit the network or the
            Trainer's strategy; at resume, where the checkpoint was made with another schedule.

    >>> schedule = StagedUnfreeze({0: ["head"], 5: ["block5"], 10: ["block4"]})
    >>> [schedule.trained_stages(epoch) for epoch in (0, 5, 12)]
    [('head',), ('head', 'block5'), ('head', 'block5', 'block4')]
    """

    def __init__(self, schedule: dict[int, list[str]], train_norm: bool = True) -> None:
        ordered = in_order(schedule)
        self.steps = tuple(tuple(names) for _, names in ordered)
        self.starts = {name: epoch for epoch, names in ordered for name in names}
        self.train_norm = train_norm
        self._told: tuple[str, ...] = ()
        self._fits = False
        self._began = -1  # the last epoch that did
        self._never: list[str] = []  # stages of which a warning has said so
        self._settled = False
        self._wrapped: list[bool] | None = None
        if twice := [name for name in self.starts if self.planned.count(name) > 1]:
            raise ScheduleError(f"schedule={schedule} unfreezes {', '.join(twice)} more than once.")
        if not ordered or ordered[0][0] != 0 or not ordered[0][1]:
            raise ScheduleError(
                f"schedule={schedule}: wanted one that begins with epoch 0, in which nothing would train else; "
                'commonly {0: ["head"], …}.'
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a checkpoint must have too, as plain values."""
        schedule: dict[int, list[str]] = {}
        for name, epoch in self.starts.items():
            schedule.setdefault(epoch, []).append(name)
        return {"schedule": schedule, "train_norm": self.train_norm}

    @property
    def planned(self) -> tuple[str, ...]:
        """All stages that will train, in the order in which they unfreeze."""
        return tuple(name for step in self.steps for name in step)

    def trained_stages(self, epoch: int) -> tuple[str, ...]:
        """Return the stages that train in an epoch, in the order in which they unfreeze."""
        return tuple(name for name, start in self.starts.items() if start <= epoch)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the schedule, and freeze before DDP wraps the module."""
        self._fits = stage == "fit"
        if not self._fits:
            return
        stages = stages_of(pl_module)
        check_trainer(trainer)
        check_stages(self.steps, stages)
        self._told, self._began, self._never, self._wrapped = (), -1, [], None
        unfreeze(pl_module)  # what an earlier fit has left
        if not pl_module.training:
            for module in stages.values():
                module.train()
        # Eval mode comes with the first epoch; earlier, Lightning would warn.
        freeze(pl_module, self._constant(stages, trainer.current_epoch), modes=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set what trains once more: a loaded checkpoint has changed the epoch."""
        check_optimizers(trainer, pl_module)
        self._apply(trainer, pl_module)
        limit = trainer.max_epochs or -1
        if limit > 0:
            self._never = [name for name, start in self.starts.items() if start >= limit]
            self._warn(trainer, self._never, f"will not unfreeze: the run has max_epochs={limit}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set what trains; where a stage unfreezes, have EarlyStopping count afresh."""
        self._apply(trainer, pl_module)
        if trainer.current_epoch > 0 and trainer.current_epoch in self.starts.values():
            wait_afresh(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Settle at an epoch's first batch, when others have frozen what they want, too."""
        if self._settled:
            return
        self._settled = True
        stages, trained = stages_of(pl_module), self.trained_stages(trainer.current_epoch)
        freeze(pl_module, [part for name in trained for part in frozen_by_others(pl_module, stages[name])])
        now = [parameter.requires_grad for parameter in pl_module.parameters()]
        if now != self._wrapped:
            self._wrapped = now
            _wrap_again(trainer)
        if trained != self._told:
            self._tell(trainer, pl_module, trained)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Share BatchNorm's statistics among ranks, which DDP does before training steps only."""
        if trainer.world_size > 1 and trainer.state.fn is TrainerFn.FITTING:
            for name in self.trained_stages(trainer.current_epoch):
                for buffer in stages_of(pl_module)[name].buffers():
                    dist.broadcast(buffer, src=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the number of stages that train, the trainable parameters, and each stage's learning rate."""
        rows = stage_rows(trainer, stages_of(pl_module))
        rates = {f"learning_rate/{row.stage}": row.learning_rate for row in rows if row.learning_rate is not None}
        values = {
            "stages/trained": float(len(self.trained_stages(trainer.current_epoch))),
            "stages/trainable_parameters": float(sum(row.trainable for row in rows)),
        }
        pl_module.log_dict(values | rates, sync_dist=True)
        # Already now, so that others, who freeze at each epoch's start, find what unfreezes then.
        self._set(pl_module, trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which stages never came, and why; leave what trained last."""
        self._set(pl_module, self._began)
        self._warn_of_the_rest(trainer, why_it_ended(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say so too where a person or a signal stops the run; an error speaks for itself."""
        if self._fits and self._began >= 0 and isinstance(exception, KeyboardInterrupt | SystemExit):
            self._warn_of_the_rest(trainer, f"it was interrupted ({type(exception).__name__})")

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule, to be compared at resume."""
        return self.settings

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume with another schedule; to test or predict, none is needed.

        Raises:
            ScheduleError: It shows both.
        """
        if not self._fits:
            return
        saved = {"train_norm": True, **state_dict}  # it was not always a setting
        recorded = {name: saved.get(name) for name in self.settings}
        if recorded != self.settings:
            raise ScheduleError(
                f"The checkpoint was made with {in_words(recorded)}; this run has {in_words(self.settings)}. "
                "Resume with the checkpoint's own, or begin a new run with init_from."
            )

    def _constant(self, stages: Stages, epoch: int) -> list[nn.Module]:
        """Return what the schedule wants frozen in an epoch."""
        trained = self.trained_stages(epoch)
        frozen = [stage for name, stage in stages.items() if name not in trained]
        if self.train_norm:
            return frozen
        pretrained = list(stages.values())[:-1]
        return frozen + [layer for stage in pretrained for layer in stage.modules() if isinstance(layer, NORMS)]

    def _set(self, pl_module: LightningModule, epoch: int) -> list[nn.Module]:
        """Freeze what is to be frozen in an epoch; return what the schedule, and not others, wants so."""
        stages = stages_of(pl_module)
        constant = self._constant(stages, epoch)
        unfreeze(pl_module)
        others = [
            part for name in self.trained_stages(epoch) for part in frozen_by_others(pl_module, stages[name])
        ]
        freeze(pl_module, [*constant, *others])
        return constant

    def _apply(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._settled = trainer.current_epoch, False
        constant = self._set(pl_module, trainer.current_epoch)
        fixed = {id(parameter) for part in constant for parameter in part.parameters()}
        may_train = [name for name, parameter in pl_module.named_parameters() if id(parameter) not in fixed]
        for audit in find_callbacks(trainer, FreezeAudit):
            audit.declare(trainer, pl_module, may_train)

    def _tell(self, trainer: Trainer, pl_module: LightningModule, trained: tuple[str, ...]) -> None:
        stages = stages_of(pl_module)
        new = [name for name in trained if name not in self._told]
        idle = [name for name in new if stages[name] in frozen_by_others(pl_module, stages[name])]
        self._told = trained
        title = f"epoch {trainer.current_epoch}: {', '.join(trained)}"
        pl_module.print(stage_table(stage_rows(trainer, stages), title))
        if idle:
            rank_zero_warn(
                f"Nothing of {', '.join(idle)} trains, though the schedule unfreezes it: something else has set "
                "requires_grad=False on all its parameters. Leave that to the schedule, or leave the stage out."
            )

    def _warn_of_the_rest(self, trainer: Trainer, reason: str) -> None:
        rest = [name for name in self.planned if name not in (*self.trained_stages(self._began), *self._never)]
        self._warn(trainer, rest, f"did not unfreeze: the run ended in epoch {self._began}, since {reason}")

    def _warn(self, trainer: Trainer, names: list[str], what: str) -> None:
        if names and not trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a connector of the Trainer
            when = [f"{name} (epoch {self.starts[name]})" if name in self.starts else name for name in names]
            rank_zero_warn(f"{', '.join(when)} {what}.")


def _wrap_again(trainer: Trainer) -> None:
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, DistributedDataParallel):
        strategy.model = strategy.lightning_module
        strategy.configure_ddp()
