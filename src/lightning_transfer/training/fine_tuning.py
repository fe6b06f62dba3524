"""Regime three, staged fine-tuning: first the head trains, then the backbone's last stages, one after the other."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from lightning_transfer.callbacks.staged_unfreeze import StagedUnfreeze
from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import Stages
from lightning_transfer.training.frozen_backbone import FrozenBackboneClassifier
from lightning_transfer.utils.lightning import find_callbacks


class FineTuningClassifier(FrozenBackboneClassifier):
    """Begins with a frozen backbone; `StagedUnfreeze` says which stages train from when on.

    The optimizer has a named group for every stage from the start, with the rate lr · layer_decay^d for the stage d
    places before the head. A stage that is frozen costs nothing: no gradients reach it.
    """

    @property
    def stages(self) -> Stages:
        """The backbone's stages, then "head"."""
        return {**dict(self.backbone.stages.items()), "head": self.head}

    def frozen_prefix(self, schedule: StagedUnfreeze) -> Backbone:
        """The stages that never unfreeze, as a backbone whose outputs can be stored.

        With `FeatureDataModule(extract_features(trainer, model.frozen_prefix(schedule), images, views=5))` for the
        images they run once a view, and no more.

        Raises:
            BackboneError: The schedule unfreezes a stage that there is not.
        """
        unfreezing = [name for name in schedule.planned if name != "head"]
        if not unfreezing:
            return self.backbone
        prefix, _ = self.backbone.split(min(unfreezing, key=self.backbone.stage_index))
        return prefix

    def setup(self, stage: str) -> None:
        """Refuses outputs that a stage which is to unfreeze has already made.

        Raises:
            ModuleError: So it is; or see `Classifier`.
        """
        super().setup(stage)
        if stage != "fit" or self.stored is None:
            return
        for schedule in find_callbacks(self.trainer, StagedUnfreeze):
            unfreezing = set(schedule.planned) - {"head", *self.stored.later_stages}
            if early := [name for name in self.backbone.stage_names if name in unfreezing]:
                last = self.backbone.stage_names[-len(self.stored.later_stages) - 1]
                raise ModuleError(
                    f"{', '.join(early)} would unfreeze, but the data are stored outputs of {last}: that has run. "
                    "Store those of model.frozen_prefix(schedule), or pass images."
                )

    def on_fit_start(self) -> None:
        """Warns where nothing would ever unfreeze."""
        super().on_fit_start()
        if not find_callbacks(self.trainer, StagedUnfreeze):
            rank_zero_warn(
                "FineTuningClassifier trains its head alone, since there is no StagedUnfreeze: add "
                f'Trainer(callbacks=[StagedUnfreeze({{0: ["head"], 5: ["{self.backbone.stage_names[-1]}"]}})]).'
            )
