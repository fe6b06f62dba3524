"""Regime three, staged fine-tuning: first the head trains, then the base's last stages, one after the other."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from lightning_transfer.callbacks.staged_unfreeze import StagedUnfreeze
from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import ConvBase
from lightning_transfer.models.freezing import Stages
from lightning_transfer.training.frozen_backbone import FrozenBaseClassifier
from lightning_transfer.utils.present import present


class FineTuningClassifier(FrozenBaseClassifier):
    """Begins with a frozen base; `StagedUnfreeze` says which stages train from when on.

    The optimizer has a named group for every stage from the start, with the rate lr · lr_decay^d for the stage d
    places before the head. A stage that is frozen costs nothing: no gradients reach it.
    """

    @property
    def stages(self) -> Stages:
        """The base's stages, then "head"."""
        return {**dict(self.base.stages.items()), "head": self.head}

    def frozen_prefix(self, schedule: StagedUnfreeze) -> ConvBase:
        """The stages that never thaw, as a base whose outputs can be stored.

        With `FeatureDataModule(extract_features(trainer, model.frozen_prefix(schedule), images, views=5))` for the
        pictures they run once a view, and no more.

        Raises:
            BackboneError: The schedule thaws a stage that there is not.
        """
        thawing = [name for name in schedule.planned if name != "head"]
        if not thawing:
            return self.base
        prefix, _ = self.base.split(min(thawing, key=self.base.stage_index))
        return prefix

    def setup(self, stage: str) -> None:
        """Refuses outputs that a stage which is to thaw has already made.

        Raises:
            ModuleError: So it is; or see `Classifier`.
        """
        super().setup(stage)
        if stage != "fit" or self.stored is None:
            return
        for schedule in present(self.trainer, StagedUnfreeze):
            thawing = set(schedule.planned) - {"head", *self.stored.later_stages}
            if early := [name for name in self.base.stage_names if name in thawing]:
                last = self.base.stage_names[-len(self.stored.later_stages) - 1]
                raise ModuleError(
                    f"{', '.join(early)} would thaw, but the data are stored outputs of {last}: that has run. "
                    "Store those of model.frozen_prefix(schedule), or pass pictures."
                )

    def on_fit_start(self) -> None:
        """Warns where nothing would ever thaw."""
        super().on_fit_start()
        if not present(self.trainer, StagedUnfreeze):
            rank_zero_warn(
                "FineTuningClassifier trains its head alone, since there is no StagedUnfreeze: add "
                f'Trainer(callbacks=[StagedUnfreeze({{0: ["head"], 5: ["{self.base.stage_names[-1]}"]}})]).'
            )
