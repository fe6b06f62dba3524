"""What a schedule of stages must be, and what it needs of the module, the optimizer and the Trainer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy

from lightning_transfer.errors import ScheduleError
from lightning_transfer.models.freezing import Stages, frozen_parameters
from lightning_transfer.utils.lightning import find_callbacks, learning_rates


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


def in_order(schedule: object) -> list[tuple[int, list[str]]]:
    """Return the steps sorted by epoch; a config may hold anything that YAML can write.

    Raises:
        ScheduleError: They are not lists of names by epoch.
    """
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


def in_words(settings: Mapping[str, Any]) -> str:
    """Return settings as they are written in Python."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def check_stages(steps: Sequence[Sequence[str]], stages: Stages) -> None:
    """Check that steps go from the head towards the input, without a gap.

    Args:
        steps: The stages that unfreeze together, step by step.
        stages: All of them, from the input to the output.

    Raises:
        ScheduleError: They do not, or name a stage that does not exist.
    """
    order = list(stages)[::-1]
    for name in (name for step in steps for name in step):
        if name not in stages:
            near = difflib.get_close_matches(name, order, n=1)
            raise ScheduleError(
                f"There is no stage {name!r}{f' (did you mean {near[0]}?)' if near else ''}: from the head "
                f"towards the input the stages are {', '.join(order)}."
            )
    place = 0
    for step in steps:
        if set(step) != set(order[place : place + len(step)]):
            raise ScheduleError(
                f"{'; '.join(', '.join(each) for each in steps)} is out of order at {', '.join(step)}: stages "
                f"unfreeze from the head towards the input, {', '.join(order)}, and none may be left out."
            )
        place += len(step)


def check_trainer(trainer: Trainer) -> None:
    """Refuse what cannot work with stages that unfreeze.

    Raises:
        ScheduleError: A strategy that shards parameters, or a callback that fails at an unfreeze.
    """
    strategy = trainer.strategy
    fits = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not isinstance(strategy, DeepSpeedStrategy)
    if not fits:
        raise ScheduleError(
            f"StagedUnfreeze cannot work with {type(strategy).__name__}: it flattens or shards parameters once, "
            'and those that unfreeze later would get no gradient. Use one device, or strategy="ddp".'
        )
    if find_callbacks(trainer, StochasticWeightAveraging):
        raise ScheduleError(
            "StochasticWeightAveraging fails when a stage unfreezes after it has begun: use EMAWeightAveraging."
        )


def check_optimizers(trainer: Trainer, module: LightningModule) -> None:
    """Check that the optimizer has all that trains now or later; what somebody else has frozen it may lack.

    Raises:
        ScheduleError: Names the stages of which it lacks something.
    """
    known = learning_rates(trainer)
    later = {id(parameter) for parameter in frozen_parameters(module)}
    missing = [
        name
        for name, stage in stages_of(module).items()
        if any(id(p) not in known for p in stage.parameters() if p.requires_grad or id(p) in later)
    ]
    if missing:
        raise ScheduleError(
            f"The optimizer lacks parameters of {', '.join(missing)}: give it all stages from the start, also "
            "those that are frozen then. parameter_groups(self.stages, lr) does so."
        )
