"""Outputs of a base's first stages, which a run begins with in place of pictures.

Shapes: C channels, h w feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import ConvBase


class ServesOutputs(Protocol):
    """A data module whose batches are a stage's outputs, as those of `FeatureDataModule` are."""

    @property
    def last_stage(self) -> str:
        """The stage that they come from."""

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""

    @property
    def base_fingerprint(self) -> str:
        """Of the base up to that stage, see `ConvBase.fingerprint`."""


@dataclass(frozen=True)
class StoredOutputs:
    """Where in the base a run begins.

    Attributes:
        shape: (C, h, w) of what it begins with.
        later_stages: The stages that are still to run.
    """

    shape: tuple[int, int, int]
    later_stages: tuple[str, ...]


def stored_outputs(base: ConvBase, data: ServesOutputs) -> StoredOutputs:
    """Looks up where a data module's outputs belong, and whether they are this base's.

    Raises:
        BackboneError: The base has no such stage.
        ModuleError: They were made with other weights.
    """
    later = base.stage_names[base.stage_index(data.last_stage) + 1 :]
    prefix = base.split(later[0])[0] if later else base
    if prefix.fingerprint() != data.base_fingerprint:
        raise ModuleError(
            f"The stored outputs of {data.last_stage} come from a base with other weights than this {base.name} "
            "has: extract them with this one, or pass the weights that they were made with."
        )
    return StoredOutputs(data.feature_shape, later)
