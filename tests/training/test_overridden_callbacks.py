"""A subclass that overrides `configure_callbacks` is told what it leaves out, and no NaN run ends as a success."""

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder, Timer

from lightning_transfer import FrozenBackboneClassifier
from lightning_transfer.errors import TrainingError
from runs import images_of

ARGUMENTS = {"weights": None, "pool": "avg", "hidden": 4}
LEFT_OUT = (
    "configure_callbacks leaves out FreezeAudit, StepSeeds, StopOnNonFinite, History: override default_callb"
)


class Alone(FrozenBackboneClassifier):
    """As people write it, who do not know that there are others."""

    def configure_callbacks(self):
        return [Timer()]


class Together(FrozenBackboneClassifier):
    def configure_callbacks(self):
        return [*super().configure_callbacks(), Timer()]


class Exploding(Alone):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * (float("nan") if batch_idx == 1 else 1.0)


def test_it_is_told_what_it_leaves_out(quiet_trainer, image_folder):
    with pytest.warns(UserWarning, match=LEFT_OUT):
        quiet_trainer(max_epochs=1).fit(Alone("squeezenet1_1", **ARGUMENTS), images_of(image_folder))
    quiet_trainer(max_epochs=1).fit(Together("squeezenet1_1", **ARGUMENTS), images_of(image_folder))


@pytest.mark.filterwarnings("ignore:Exploding.configure_callbacks leaves out")
@pytest.mark.parametrize("limit_val_batches", [1.0, 0])
def test_a_run_without_the_guard_does_not_end_as_a_success(quiet_trainer, image_folder, limit_val_batches):
    trainer = quiet_trainer(max_epochs=2, limit_val_batches=limit_val_batches)
    with pytest.raises(TrainingError, match=r"loss is not finite any more, in epoch 0"):
        trainer.fit(Exploding("squeezenet1_1", **ARGUMENTS), images_of(image_folder))


@pytest.mark.filterwarnings("ignore:Alone.configure_callbacks leaves out")
def test_a_rate_finder_may_go_until_the_loss_explodes(quiet_trainer, image_folder):
    torch.manual_seed(0)
    finder = LearningRateFinder(1e-4, 1e30, num_training_steps=30, early_stop_threshold=None)
    trainer = quiet_trainer(max_epochs=1, callbacks=[finder])
    trainer.fit(Alone("squeezenet1_1", **ARGUMENTS), images_of(image_folder))
    assert finder.optimal_lr is not None
