"""The base of a module, for callbacks that look into it."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from lightning_transfer.errors import CallbackError
from lightning_transfer.models.backbone import ConvBase


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
