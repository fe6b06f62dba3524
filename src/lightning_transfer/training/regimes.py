"""The three regimes: which part of the backbone is stored, and which stages may train."""

from __future__ import annotations

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from lightning_transfer.callbacks.staged_unfreeze import StagedUnfreeze
from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.freezing import Stages
from lightning_transfer.models.network import HEAD
from lightning_transfer.training.classifier import Classifier
from lightning_transfer.utils.batch_norm import has_batch_norm
from lightning_transfer.utils.lightning import find_callbacks


class FeatureClassifier(Classifier):
    """Feature extraction: train the head on precomputed features; it takes images just as well.

    See Chollet, Deep Learning with Python, 1st edition, section 5.3.1.
    """

    def cached_backbone(self, trainer: Trainer, cache_prefix: bool = False) -> Backbone | None:
        """Return the whole backbone: it runs once an image."""
        return self.backbone


class FrozenBackboneClassifier(Classifier):
    """Frozen backbone with augmentation: train the head on images that change in each epoch.

    See Chollet, Deep Learning with Python, 1st edition, section 5.3.1, "Feature extraction with data
    augmentation".
    """


class FineTuningClassifier(Classifier):
    """Staged fine-tuning: train the head, then the last stages, as `StagedUnfreeze` says.

    The optimizer has named groups for every stage from the start, with the learning rate lr · layer_decay^d for
    the stage d places before the head. A frozen stage costs nothing: no gradients reach it.

    Until a fit freezes them, all stages are trainable. What you freeze in them yourself stays frozen.
    """

    unfreezes = True

    @property
    def stages(self) -> Stages:
        """All stages, from the input to the head."""
        self._ensure_built()
        return self.network.stages

    @property
    def trains_batch_norm(self) -> bool:
        """Whether BatchNorm layers train in this run: those of the head, and of the stages that unfreeze."""
        schedules = find_callbacks(self.trainer, StagedUnfreeze)
        planned = {name for found in schedules if getattr(found, "train_norm", True) for name in found.planned}
        return any(has_batch_norm(self.stages[name]) for name in {HEAD, *planned})

    def frozen_prefix(self, schedule: StagedUnfreeze) -> Backbone:
        """Return the stages that never unfreeze, as a backbone whose outputs can be stored.

        Raises:
            BackboneError: The schedule unfreezes a stage that does not exist.
        """
        unfreezing = [name for name in schedule.planned if name != HEAD]
        if not unfreezing:
            return self.backbone
        prefix, _ = self.backbone.split(min(unfreezing, key=self.backbone.stage_index))
        return prefix

    def cached_backbone(self, trainer: Trainer, cache_prefix: bool = False) -> Backbone | None:
        """Return the stages that never unfreeze, if they are to be cached."""
        schedules = find_callbacks(trainer, StagedUnfreeze)
        if not cache_prefix:
            return None
        return self.frozen_prefix(schedules[0]) if schedules else self.backbone

    def default_callbacks(self) -> list[Callback]:
        """Add a schedule that trains the head alone, where the Trainer has none; says so."""
        callbacks = super().default_callbacks()
        if find_callbacks(self.trainer, StagedUnfreeze):
            return callbacks
        if self.trainer.state.fn is TrainerFn.FITTING:
            rank_zero_warn(
                "FineTuningClassifier trains its head alone, since there is no StagedUnfreeze: add "
                f'Trainer(callbacks=[StagedUnfreeze({{0: ["head"], 5: ["{self.backbone.stage_names[-1]}"]}})]).'
            )
        return [StagedUnfreeze({0: [HEAD]}), *callbacks]

    def setup(self, stage: str) -> None:
        """Refuse stored features of a stage that is to unfreeze.

        Raises:
            ModuleError: So it is; or see `Classifier`.
        """
        super().setup(stage)
        if stage != "fit" or self.input_stage is None:
            return
        planned = {name for found in find_callbacks(self.trainer, StagedUnfreeze) for name in found.planned}
        stages = list(self.stages)
        ran = stages[: stages.index(self.input_stage)]
        if early := [name for name in ran if name in planned]:
            raise ModuleError(
                f"{', '.join(early)} would unfreeze, but the data are stored features of {ran[-1]}: that has run. "
                "Store those of model.frozen_prefix(schedule), or pass images."
            )

    def leave_eval_mode(self) -> None:
        """Leave out the layers that somebody has put into eval mode, unless that was done to the whole module."""
        by_hand = [part for part in self.modules() if not part.training] if self.training else []
        self.train()
        for part in by_hand:
            part.training = False

    def on_train_epoch_start(self) -> None:
        """Reset the scores; modes are the schedule's."""
        self._scores("train").reset()
