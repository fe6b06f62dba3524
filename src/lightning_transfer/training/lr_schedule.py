"""Any learning-rate scheduler of torch, by name, with a warm-up for each stage when it unfreezes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args

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

    Args:
        optimizer: With all its parameter groups.
        scheduler: One of torch's, for the same optimizer; None for constant learning rates.
        interval: Whether the scheduler counts optimizer steps or epochs.
        warmup_steps: Over how many optimizer steps the learning rate of a stage rises once it trains.

    Attributes:
        rates: Each group's rate without the warm-up.
        ages: For how many optimizer steps each group has trained.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: LRScheduler | ReduceLROnPlateau | None = None,
        interval: Interval = "step",
        warmup_steps: int = 0,
    ) -> None:
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.interval = interval
        self.warmup_steps = warmup_steps
        self.rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        self.ages = [0] * len(self.rates)
        self._apply()

    def step(self) -> None:
        """Advance after an optimizer step."""
        for index, group in enumerate(self.optimizer.param_groups):
            self.ages[index] += group["params"][0].requires_grad
        if self.interval == "step":
            self._advance()
        self._apply()

    def epoch_end(self) -> None:
        """Advance after an epoch's last step."""
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
        scheduler = None if self.scheduler is None else self.scheduler.state_dict()
        return {"scheduler": scheduler, "rates": list(self.rates), "ages": list(self.ages)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ModuleError: The state is that of another schedule.
        """
        if (state["scheduler"] is None) != (self.scheduler is None) or len(state["rates"]) != len(self.rates):
            raise ModuleError(
                "The checkpoint was made with other parameter groups or another learning-rate scheduler: "
                "resume with the arguments it was trained with."
            )
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.rates = list(state["rates"])
        self.ages = list(state["ages"])

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
) -> StageLRScheduler | None:
    """Make a schedule from what a config can hold.

    Args:
        optimizer: With a rate for each group.
        name: A class of `torch.optim.lr_scheduler`, or "cosine", "one_cycle", "plateau"; None for constant rates.
        options: Its arguments. What stands for the length of the run or for the highest rates may be left out.
        interval: What the scheduler counts; where None, steps for cosine and one-cycle, epochs for the others.
        warmup_steps: Optimizer steps of each stage's warm-up.
        steps: Optimizer steps of the whole run.
        epochs: Epochs of the whole run.

    Returns:
        The schedule; None where all rates are constant.

    Raises:
        ModuleError: No such scheduler or option; or the length of the run is wanted and not known.
    """
    if interval not in (None, *get_args(Interval)):
        raise ModuleError(f"scheduler_interval={interval!r}: wanted step or epoch.")
    if warmup_steps < 0:
        raise ModuleError(f"warmup_steps={warmup_steps}: wanted a number of optimizer steps.")
    if name is None:
        return StageLRScheduler(optimizer, warmup_steps=warmup_steps) if warmup_steps else None
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
    return StageLRScheduler(optimizer, scheduler, interval, warmup_steps)
