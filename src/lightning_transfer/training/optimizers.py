"""Any optimizer of torch, by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from torch import optim

from lightning_transfer.errors import ModuleError

KNOWN = sorted(
    name
    for name, cls in vars(optim).items()
    if inspect.isclass(cls) and issubclass(cls, optim.Optimizer) and cls is not optim.Optimizer
)


def make_optimizer(
    name: str, groups: Sequence[dict[str, Any]], options: Mapping[str, Any], fused: bool
) -> optim.Optimizer:
    """Make an optimizer from what a config can hold.

    Args:
        name: A class of `torch.optim`, such as "AdamW" or "SGD".
        groups: Parameter groups with their learning rates and weight decays.
        options: Further arguments of the class, such as {"momentum": 0.9}.
        fused: Make the step in one pass over memory, where the class can.

    Raises:
        ModuleError: No such optimizer or option.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> type(make_optimizer("SGD", [{"params": [weight], "lr": 0.1}], {"momentum": 0.9}, fused=True)).__name__
    'SGD'
    """
    if name not in KNOWN:
        raise ModuleError(f"optimizer={name!r}: wanted one of {', '.join(KNOWN)}.")
    cls = getattr(optim, name)
    parameters = list(inspect.signature(cls).parameters)[1:]
    if unknown := sorted(set(options) - set(parameters)):
        raise ModuleError(f"optimizer_options: {name} has no {', '.join(unknown)}, but {', '.join(parameters)}.")
    chosen = {"fused": True, **options} if fused and "fused" in parameters else dict(options)
    if chosen.get("foreach"):
        chosen.pop("fused", None)  # torch refuses both
    try:
        made: optim.Optimizer = cls(list(groups), **chosen)
    except (TypeError, ValueError) as error:
        raise ModuleError(f"optimizer_options={dict(options)} do not make a {name}: {error}.") from error
    return made


def may_fuse(trainer: Trainer) -> bool:
    """Return whether an optimizer may make its step in one pass over memory.

    Lightning's mixed precisions refuse to clip gradients of a fused optimizer, and float16 needs unscaling.
    """
    precision = str(trainer.precision)
    return precision != "16-mixed" and not (trainer.gradient_clip_val is not None and precision.endswith("-mixed"))
