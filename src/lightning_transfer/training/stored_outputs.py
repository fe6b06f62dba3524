"""Outputs of a backbone's first stages, which a run begins with in place of images.

Shapes: C channels, h w feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone


class ServesOutputs(Protocol):
    """A data module whose batches are a stage's outputs, as those of `FeatureDataModule` are."""

    @property
    def last_stage(self) -> str:
        """The stage that they come from."""

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""

    @property
    def backbone_fingerprint(self) -> str:
        """Of the backbone up to that stage, see `Backbone.fingerprint`."""


@dataclass(frozen=True)
class StoredOutputs:
    """Where in the backbone a run begins.

    Attributes:
        shape: (C, h, w) of what it begins with.
        later_stages: The stages that are still to run.
    """

    shape: tuple[int, int, int]
    later_stages: tuple[str, ...]


def stored_outputs(backbone: Backbone, data: ServesOutputs) -> StoredOutputs:
    """Looks up where a data module's outputs belong, and whether they are this backbone's.

    Raises:
        BackboneError: The backbone has no such stage.
        ModuleError: They were made with other weights.
    """
    later = backbone.stage_names[backbone.stage_index(data.last_stage) + 1 :]
    prefix = backbone.split(later[0])[0] if later else backbone
    if prefix.fingerprint() != data.backbone_fingerprint:
        raise ModuleError(
            f"The stored outputs of {data.last_stage} come from a backbone with other weights than this {backbone.name} "
            "has: extract them with this one, or pass the weights that they were made with."
        )
    return StoredOutputs(data.feature_shape, later)
