"""Regime three, staged fine-tuning: first the head trains, then the base's last stages, one after the other."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from lightning_transfer.backbones.freezing import Stages
from lightning_transfer.callbacks.present import present
from lightning_transfer.callbacks.staged_unfreeze import StagedUnfreeze
from lightning_transfer.modules.frozen_base import FrozenBaseClassifier


class FineTuningClassifier(FrozenBaseClassifier):
    """Begins with a frozen base; `StagedUnfreeze` says which stages train from when on.

    The optimizer has a named group for every stage from the start, with the rate lr · lr_decay^d for the stage d
    places before the head. A stage that is frozen costs nothing: no gradients reach it.
    """

    @property
    def stages(self) -> Stages:
        """The base's stages, then "head"."""
        return {**dict(self.base.stages.items()), "head": self.head}

    def on_fit_start(self) -> None:
        """Warns where nothing would ever thaw."""
        super().on_fit_start()
        if not present(self.trainer, StagedUnfreeze):
            rank_zero_warn(
                "FineTuningClassifier trains its head alone, since there is no StagedUnfreeze: add "
                f'Trainer(callbacks=[StagedUnfreeze({{0: ["head"], 5: ["{self.base.stage_names[-1]}"]}})]).'
            )
