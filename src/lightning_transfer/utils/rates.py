"""At which rate each parameter trains."""

from __future__ import annotations

from lightning.pytorch import Trainer


def rates_of(trainer: Trainer) -> dict[int, float]:
    """Learning rate by the parameter's `id`, over all optimizers; two fresh layers would be equal by value."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {id(parameter): float(group["lr"]) for group in groups for parameter in group["params"]}
