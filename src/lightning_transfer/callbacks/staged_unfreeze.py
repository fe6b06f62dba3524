"""Unfreeze stages by epoch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, cast

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch.nn.parallel import DistributedDataParallel

from lightning_transfer.callbacks.freeze_audit import FreezeAudit
from lightning_transfer.callbacks.stage_table import StageRow, stage_table
from lightning_transfer.errors import ScheduleError
from lightning_transfer.models.freezing import Stages, freeze, is_trainable, unfreeze
from lightning_transfer.utils.lightning import find_callbacks, learning_rates


class StagedUnfreeze(Callback):
    """Unfreeze stages by epoch, from the head towards the input.

    It works with any LightningModule that has `stages`, a mapping of names to modules from the input to the
    output, and whose optimizer has all their parameters from the start (see `parameter_groups`).

    What trains is a function of the epoch alone, set at each epoch's start, so that a resumed run continues as if
    it had not been stopped. Whenever it changes under DDP, the module is wrapped again, since DDP never
    synchronises what was frozen when it wrapped the module
    (https://github.com/Lightning-AI/pytorch-lightning/issues/20340).

    Args:
        schedule: The stages that begin to train, by epoch. Their order is from the head towards the input, without
            a gap; the first step must be at epoch 0.

    Raises:
        ScheduleError: At once, for a malformed schedule; at set-up, where it does not fit the network or the
            Trainer's strategy; at resume, where the checkpoint was made with another schedule.

    >>> schedule = StagedUnfreeze({0: ["head"], 5: ["block5"], 10: ["block4"]})
    >>> [schedule.trained_stages(epoch) for epoch in (0, 5, 12)]
    [('head',), ('head', 'block5'), ('head', 'block5', 'block4')]
    """

    def __init__(self, schedule: dict[int, list[str]]) -> None:
        ordered = _in_order(schedule)
        self.steps = tuple(tuple(names) for _, names in ordered)
        self.starts = {name: epoch for epoch, names in ordered for name in names}
        self._told: tuple[str, ...] = ()
        self._fits = False
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
        return {"schedule": schedule}

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
        _refuse(trainer)
        self._check(stages_of(pl_module))
        self._told = ()
        self._set_gradients(trainer, pl_module)
        for module in stages_of(pl_module).values():
            module.train()  # eval mode comes with the first epoch; earlier, Lightning would warn

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set what trains once more: a loaded checkpoint has changed the epoch."""
        _check_optimizers(trainer, stages_of(pl_module))
        never = [name for name, start in self.starts.items() if start >= (trainer.max_epochs or float("inf")) > 0]
        if never:
            rank_zero_info(f"{', '.join(never)} will not unfreeze: the run has {trainer.max_epochs} epochs.")
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set what trains, and print a table where it changed."""
        self._apply(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Share BatchNorm's statistics among ranks, which DDP does before training steps only."""
        if trainer.world_size > 1 and trainer.state.fn is TrainerFn.FITTING:
            self._share_statistics(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the number of stages that train, the trainable parameters, and each stage's learning rate."""
        rows = _rows(trainer, stages_of(pl_module))
        rates = {f"learning_rate/{row.stage}": row.learning_rate for row in rows if row.learning_rate is not None}
        values = {
            "stages/trained": float(len(self.trained_stages(trainer.current_epoch))),
            "stages/trainable_parameters": float(sum(row.trainable for row in rows)),
        }
        pl_module.log_dict(values | rates, sync_dist=True)

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
        recorded = {name: state_dict.get(name) for name in self.settings}
        if recorded != self.settings:
            raise ScheduleError(
                f"The checkpoint was made with {_words(recorded)}; this run has {_words(self.settings)}. "
                "Resume with the checkpoint's own, or begin a new run with init_from."
            )

    def _check(self, stages: Stages) -> None:
        order = list(stages)[::-1]
        for name in self.planned:
            if name not in stages:
                near = difflib.get_close_matches(name, order, n=1)
                raise ScheduleError(
                    f"There is no stage {name!r}{f' (did you mean {near[0]}?)' if near else ''}: from the head "
                    f"towards the input the stages are {', '.join(order)}."
                )
        place = 0
        for step in self.steps:
            if set(step) != set(order[place : place + len(step)]):
                raise ScheduleError(
                    f"{_words(self.settings)} is out of order at {', '.join(step)}: stages unfreeze from the head "
                    f"towards the input, {', '.join(order)}, and none may be left out."
                )
            place += len(step)

    def _set_gradients(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trained = self.trained_stages(trainer.current_epoch)
        for name, module in stages_of(pl_module).items():
            module.requires_grad_(name in trained)

    def _apply(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stages = stages_of(pl_module)
        trained = self.trained_stages(trainer.current_epoch)
        before = [parameter.requires_grad for parameter in pl_module.parameters()]
        for name, module in stages.items():
            (unfreeze if name in trained else freeze)(module)
        names = [name for name, parameter in pl_module.named_parameters() if parameter.requires_grad]
        for audit in find_callbacks(trainer, FreezeAudit):
            audit.declare(trainer, pl_module, names)
        if before != [parameter.requires_grad for parameter in pl_module.parameters()]:
            _wrap_again(trainer)
        if trained != self._told:
            self._told = trained
            title = f"epoch {trainer.current_epoch}: {', '.join(trained)}"
            pl_module.print(stage_table(_rows(trainer, stages), title))

    def _share_statistics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stages = stages_of(pl_module)
        for name in self.trained_stages(trainer.current_epoch):
            for buffer in stages[name].buffers():
                dist.broadcast(buffer, src=0)


def stages_of(module: LightningModule) -> Stages:
    """Return a module's `stages`.

    Raises:
        ScheduleError: It has none.
    """
    stages = getattr(module, "stages", None)
    if not isinstance(stages, Mapping):
        raise ScheduleError(
            f"{type(module).__name__} has no stages: give it a property `stages`, a dict of names to modules from "
            "the input to the output."
        )
    return cast(Stages, stages)


def _in_order(schedule: object) -> list[tuple[int, list[str]]]:
    """Return the steps sorted by epoch; a config may hold anything that YAML can write."""
    fits = isinstance(schedule, Mapping) and all(
        type(epoch) is int and isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
        for epoch, names in schedule.items()
    )
    if not fits:
        raise ScheduleError(
            f"schedule={schedule!r}: wanted lists of stage names by whole epoch, such as "
            '{0: ["head"], 5: ["block5"]}.'
        )
    return sorted(cast(dict[int, list[str]], schedule).items())


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _refuse(trainer: Trainer) -> None:
    strategy = trainer.strategy
    fits = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not isinstance(strategy, DeepSpeedStrategy)
    if not fits:
        raise ScheduleError(
            f"StagedUnfreeze cannot work with {type(strategy).__name__}: it flattens or shards parameters once, "
            "and "
            'those that unfreeze later would get no gradient. Use one device, or strategy="ddp".'
        )
    if find_callbacks(trainer, StochasticWeightAveraging):
        raise ScheduleError(
            "StochasticWeightAveraging fails when a stage unfreezes after it has begun: use EMAWeightAveraging."
        )


def _check_optimizers(trainer: Trainer, stages: Stages) -> None:
    known = learning_rates(trainer)
    missing = [n for n, module in stages.items() if any(id(p) not in known for p in module.parameters())]
    if missing:
        raise ScheduleError(
            f"The optimizer lacks parameters of {', '.join(missing)}: give it all stages from the start, also "
            "those that are frozen then. parameter_groups(self.stages, lr) does so."
        )


def _wrap_again(trainer: Trainer) -> None:
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, DistributedDataParallel):
        strategy.model = strategy.lightning_module
        strategy.configure_ddp()


def _rows(trainer: Trainer, stages: Stages) -> list[StageRow]:
    rates = learning_rates(trainer)
    rows = []
    for name, module in stages.items():
        parameters = list(module.parameters())
        size = sum(parameter.numel() for parameter in parameters)
        rate = rates.get(id(parameters[0])) if parameters else None
        rows.append(StageRow(name, size, size if is_trainable(module) else 0, rate))
    return rows
