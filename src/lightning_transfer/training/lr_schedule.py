"""Any learning-rate scheduler of torch, by name, with a warm-up for each stage when it unfreezes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lightning_transfer.errors import ModuleError

Interval = Literal["step", "epoch"]
SHORT_NAMES = {"cosine": "CosineAnnealingLR", "one_cycle": "OneCycleLR", "plateau": "ReduceLROnPlateau"}
# What each calls the length of the run.
LENGTHS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps"}
# They want functions or other schedulers, which no config can hold.
NOT_BY_NAME = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")


class StageLRScheduler:
    """Set the learning rates during a run; Lightning steps it after each optimizer step.

    The warm-up of a stage begins with its own first step, not the run's. The optimizer holds the learning rates in
    use, so that every monitor shows them.

    A plateau gets its score when validation ends. Lightning gives it at the epoch's end, after checkpoints are
    saved, and so loses an update at each resume.

    A run that resumes with other arguments, or is to be longer than before, follows the formula of its own
    arguments from the step that it has reached. (torch's schedulers would take formula and length from the
    checkpoint: cosine, at its end, then climbs again, and one-cycle fails.)

    Args:
        optimizer: With all its parameter groups.
        scheduler: One of torch's, for the same optimizer; None for constant learning rates.
        interval: Whether the scheduler counts optimizer steps or epochs.
        warmup_steps: Over how many optimizer steps the learning rate of a stage rises once it trains.
        options: The scheduler's arguments, by which a resumed run tells whether it is the same.
        steps_per_epoch: Optimizer steps of an epoch; 0 where they are not known.

    Attributes:
        rates: Each group's rate without the warm-up.
        ages: For how many optimizer steps each group has trained.
        steps: Optimizer steps so far.
        epochs: Epochs so far.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: LRScheduler | ReduceLROnPlateau | None = None,
        interval: Interval = "step",
        warmup_steps: int = 0,
        options: Mapping[str, Any] | None = None,
        steps_per_epoch: int = 0,
    ) -> None:
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.interval = interval
        self.warmup_steps = warmup_steps
        self.rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        self.ages = [0] * len(self.rates)
        self.steps = self.epochs = 0
        # As they are before the first step; a checkpoint's take their place when its optimizer state is loaded.
        self._groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        self._steps_per_epoch = steps_per_epoch
        self.recipe: dict[str, Any] = {
            "scheduler": None if scheduler is None else type(scheduler).__name__,
            "options": dict(options or {}),
            "interval": interval,
            "warmup_steps": warmup_steps,
            "lr": [_asked(group) for group in optimizer.param_groups],
            "weight_decay": [group.get("weight_decay", 0.0) for group in optimizer.param_groups],
        }
        self._apply()

    def step(self) -> None:
        """Advance after an optimizer step."""
        self.steps += 1
        for index, group in enumerate(self.optimizer.param_groups):
            self.ages[index] += any(parameter.requires_grad for parameter in group["params"])
        if self.interval == "step":
            self._advance()
        self._apply()

    def epoch_end(self) -> None:
        """Advance after an epoch's last step."""
        self.epochs += 1
        if self.interval == "epoch":
            self._advance()
        self._apply()

    @property
    def watches(self) -> bool:
        """Whether the rates depend on a score: those of a plateau."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def validation_end(self, score: float) -> None:
        """Give a plateau its score."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self._restore()
            self.scheduler.step(score)
            self._keep()
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Return plain values; the learning rates in use are in the optimizer's state."""
        return {
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "rates": list(self.rates),
            "ages": list(self.ages),
            "steps": self.steps,
            "epochs": self.epochs,
            "steps_per_epoch": self._steps_per_epoch,
            "recipe": self.recipe,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`, after the optimizer has loaded its own.

        Raises:
            ModuleError: The state is that of other parameter groups.
        """
        if len(state["rates"]) != len(self.rates):
            raise ModuleError(
                f"The checkpoint was made with {len(state['rates'])} parameter groups, this run has "
                f"{len(self.rates)}: resume with the module and the arguments that it was trained with, or begin "
                "a new run with init_from."
            )
        self.ages, self.steps, self.epochs = list(state["ages"]), self._steps_of(state), state["epochs"]
        if state["recipe"] == self.recipe:
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
            self.rates = list(state["rates"])
            return
        self._follow(state)
        rank_zero_info(
            f"From step {self.steps:,} on the learning rates follow {_words(self.recipe)}; "
            f"the checkpoint's followed {_words(state['recipe'])}."
        )

    def _follow(self, state: dict[str, Any]) -> None:
        """Go to where this schedule would be, had the run had its arguments from the start."""
        for group, fresh in zip(self.optimizer.param_groups, self._groups, strict=True):
            group.update(fresh)
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self._follow_plateau(state)
        reached = self.epochs if self.interval == "epoch" else self.steps
        with warnings.catch_warnings():
            # Of a scheduler that steps before its optimizer: the optimizer's steps were the checkpoint's.
            warnings.simplefilter("ignore")
            # A one-cycle has no rate after its last step.
            for _ in range(min(reached, getattr(self.scheduler, "total_steps", reached + 1) - 1)):
                self._advance()
        self._apply()

    def _steps_of(self, state: dict[str, Any]) -> int:
        """Return the steps so far, in steps of this run, whose epochs may have another number of them."""
        before, now = state["steps_per_epoch"], self._steps_per_epoch
        return round(state["steps"] * now / before) if before and now else int(state["steps"])

    def _follow_plateau(self, state: dict[str, Any]) -> None:
        """A plateau has no formula: keep what it has seen, and how far it has lowered the rates."""
        assert isinstance(self.scheduler, ReduceLROnPlateau)
        if state["recipe"]["scheduler"] != "ReduceLROnPlateau":
            return
        seen = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
        self.scheduler.load_state_dict({name: state["scheduler"][name] for name in seen})
        pairs = zip(self.rates, state["rates"], state["recipe"]["lr"], strict=True)
        self.rates = [rate * lowered / first if first else rate for rate, lowered, first in pairs]

    def _advance(self) -> None:
        if self.scheduler is not None and not isinstance(self.scheduler, ReduceLROnPlateau):
            self._restore()
            self.scheduler.step()
            self._keep()

    def _restore(self) -> None:
        # Many of torch's schedulers go from the rate they find to the next.
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate

    def _keep(self) -> None:
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def _apply(self) -> None:
        for group, rate, age in zip(self.optimizer.param_groups, self.rates, self.ages, strict=True):
            risen = min(1.0, (age + 1) / self.warmup_steps) if self.warmup_steps else 1.0
            group["lr"] = rate * risen


def lr_schedule(
    optimizer: Optimizer,
    name: str | None,
    options: Mapping[str, Any],
    interval: Interval | None,
    warmup_steps: int,
    steps: float,
    epochs: float,
    steps_per_epoch: int = 0,
) -> StageLRScheduler:
    """Make a schedule from what a config can hold.

    Args:
        optimizer: With a rate for each group.
        name: A class of `torch.optim.lr_scheduler`, or "cosine", "one_cycle", "plateau"; None for constant rates.
        options: Its arguments. What stands for the length of the run or for the highest rates may be left out.
        interval: What the scheduler counts; where None, steps for cosine and one-cycle, epochs for the others.
        warmup_steps: Optimizer steps of each stage's warm-up.
        steps: Optimizer steps of the whole run.
        epochs: Epochs of the whole run.
        steps_per_epoch: Optimizer steps of an epoch; 0 where they are not known.

    Raises:
        ModuleError: No such scheduler or option; or the length of the run is wanted and not known, or is more
            than a one-cycle's total_steps.
    """
    if interval not in (None, *get_args(Interval)):
        raise ModuleError(f"scheduler_interval={interval!r}: wanted step or epoch.")
    if warmup_steps < 0:
        raise ModuleError(f"warmup_steps={warmup_steps}: wanted a number of optimizer steps.")
    if name is None:
        return StageLRScheduler(optimizer, warmup_steps=warmup_steps, steps_per_epoch=steps_per_epoch)
    known = [other for other in lr_scheduler.__all__ if other not in NOT_BY_NAME]
    full_name = SHORT_NAMES.get(name, name)
    if full_name not in known:
        raise ModuleError(
            f"scheduler={name!r}: wanted {', '.join(SHORT_NAMES)} or one of {', '.join(known)}. For another one, "
            "override configure_optimizers."
        )
    cls = getattr(lr_scheduler, full_name)
    parameters = list(inspect.signature(cls).parameters)[1:]
    if unknown := sorted(set(options) - set(parameters)):
        raise ModuleError(
            f"scheduler_options: {full_name} has no {', '.join(unknown)}, but {', '.join(parameters)}."
        )
    interval = interval or ("step" if full_name in LENGTHS else "epoch")
    filled: dict[str, Any] = {}
    if full_name == "OneCycleLR":
        filled["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    length = LENGTHS.get(full_name)
    if length is not None and not {length, "epochs"} & set(options):
        total = steps if interval == "step" else epochs
        if not 0 < total < float("inf"):
            raise ModuleError(
                f"{full_name} needs the length of the run: set max_epochs, or scheduler_options.{length}."
            )
        filled[length] = int(total)
    try:
        scheduler = cls(optimizer, **{**filled, **options})
    except (TypeError, ValueError) as error:
        raise ModuleError(f"scheduler_options={dict(options)} do not make a {full_name}: {error}.") from error
    wanted = steps if interval == "step" else epochs
    if isinstance(scheduler, lr_scheduler.OneCycleLR) and scheduler.total_steps < wanted < float("inf"):
        raise ModuleError(
            f"scheduler_options={dict(options)} make a OneCycleLR of {scheduler.total_steps:,} steps, and the run "
            f"has {int(wanted):,}: leave its length out, and the run's is taken."
        )
    filled.pop("max_lr", None)  # in the groups
    return StageLRScheduler(optimizer, scheduler, interval, warmup_steps, {**filled, **options}, steps_per_epoch)


def _asked(group: Mapping[str, Any]) -> float:
    """Return the learning rate that a group was made with; schedulers put another one in its place."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def _words(recipe: Mapping[str, Any]) -> str:
    """Describe a recipe: scheduler, arguments, and the largest rate, which is the head's."""
    options = "".join(f", {name}={value}" for name, value in recipe["options"].items())
    return f"{recipe['scheduler'] or 'constant rates'} (lr {max(recipe['lr']):g}{options})"
