"""The backbone of a module, for callbacks that look into it."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from lightning_transfer.errors import CallbackError
from lightning_transfer.models.backbone import Backbone


def backbone_of(pl_module: LightningModule, wanted_by: str) -> Backbone:
    """The module's attribute `backbone`.

    Raises:
        CallbackError: It has none.
    """
    backbone = getattr(pl_module, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise CallbackError(
            f"{wanted_by} looks into the module's backbone, and {type(pl_module).__name__} has no Backbone of that "
            "name: call it so, or leave the callback out."
        )
    return backbone
