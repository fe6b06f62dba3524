"""The base of a module, for callbacks that look into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import LightningModule
from torch import nn

from lightning_transfer.backbones.conv_base import ConvBase
from lightning_transfer.errors import CallbackError


def base_of(pl_module: LightningModule, wanted_by: str) -> ConvBase:
    """The module's attribute `base`.

    Raises:
        CallbackError: It has none.
    """
    base = getattr(pl_module, "base", None)
    if not isinstance(base, ConvBase):
        raise CallbackError(
            f"{wanted_by} looks into the module's base, and {type(pl_module).__name__} has no ConvBase of that "
            "name: call it so, or leave the callback out."
        )
    return base


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Sets a module to eval mode for a while; each of its parts gets its own mode back."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode
