"""A run that was stopped and goes on is the run that was never stopped, to the last bit of its checkpoint.

With shuffling, augmentation, dropout and BatchNorm, across an unfreeze and exactly at one.
"""

import pytest
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from lightning_transfer import AdaptiveUnfreeze, Augmentation, StagedUnfreeze
from lightning_transfer.errors import ModuleError
from runs import EXISTING, Watch, differing, every_epoch, fine_tuning, images_of, saved

# The resumed run saves elsewhere, so that both can be compared.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

EPOCHS = 5
BY_EPOCH = {0: ["head"], 1: ["last_conv"], 3: ["block5"]}
STAGES = ["head", "last_conv", ["block5", "block4"]]


def by_epoch():
    return StagedUnfreeze(BY_EPOCH)


def adaptive():
    # Every step is forced after an epoch or two, so that unfreezes lie within the run; back to the best each time.
    return AdaptiveUnfreeze(STAGES, "validation/loss", patience=1, max_epochs_per_step=2, restore_best=True)


VARIANTS = {
    "constant rates": (by_epoch, {}, []),
    "one cycle": (by_epoch, {"scheduler": "one_cycle", "warmup_steps": 7}, []),
    "plateau": (by_epoch, {"scheduler": "plateau", "scheduler_options": {"patience": 0, "factor": 0.5}}, []),
    "averaged": (by_epoch, {}, [lambda: EMAWeightAveraging(decay=0.9, update_starting_at_step=0)]),
    "adaptive": (adaptive, {}, []),
    "adaptive, cosine": (adaptive, {"scheduler": "cosine", "warmup_steps": 3, "label_smoothing": 0.1}, []),
    "adaptive, averaged": (adaptive, {}, [lambda: EMAWeightAveraging(decay=0.9, update_starting_at_step=0)]),
}


@pytest.fixture
def fit(quiet_trainer, image_folder, tmp_path):
    """Fits, saving after each epoch, and gives the scores by epoch and the folder."""

    def fit(folder, variant, at_validation=False, ckpt_path=None):
        unfreeze, arguments, others = VARIANTS[variant]
        watch = Watch()
        saving = every_epoch(tmp_path / folder, at_validation)
        callbacks = [unfreeze(), watch, *(make() for make in others), saving]
        trainer = quiet_trainer(max_epochs=EPOCHS, callbacks=callbacks, enable_checkpointing=True)
        model = fine_tuning(**arguments)
        trainer.fit(model, images_of(image_folder), ckpt_path=ckpt_path, weights_only=True)
        return watch, tmp_path / folder

    return fit


@EXISTING
@pytest.mark.parametrize("at_validation", [False, True], ids=["after the epoch", "after validation"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_from_any_epoch_the_run_ends_the_same(fit, variant, at_validation):
    watch, folder = fit("whole", variant, at_validation)
    whole = saved(folder / f"{EPOCHS - 1}.ckpt")
    unfreezes = [epoch for epoch in range(1, EPOCHS) if watch.trained[epoch] != watch.trained[epoch - 1]]
    assert len(unfreezes) == 2
    assert unfreezes[-1] < EPOCHS
    for stopped in range(EPOCHS - 1):
        again, resumed = fit(f"from {stopped}", variant, at_validation, folder / f"{stopped}.ckpt")
        assert differing(whole, saved(resumed / f"{EPOCHS - 1}.ckpt")) == [], stopped
        for epoch in range(stopped + 1, EPOCHS):
            assert differing(watch.scores[epoch], again.scores[epoch]) == [], (stopped, epoch)
            assert watch.trained[epoch] == again.trained[epoch]
            assert watch.modes[epoch] == again.modes[epoch]


def test_runs_of_other_seeds_differ(fit, quiet_trainer, image_folder, tmp_path):
    """The comparison above would find a difference: of order, augmentation and dropout, each alone."""
    plain = fit("plain", "constant rates")[0].weights[EPOCHS - 1]
    for name, model_seed, data_seed in (("dropout", 1, 0), ("order and augmentation", 0, 1)):
        watch = Watch()
        trainer = quiet_trainer(max_epochs=EPOCHS, callbacks=[by_epoch(), watch])
        trainer.fit(fine_tuning(seed=model_seed), images_of(image_folder, seed=data_seed))
        assert differing(plain, watch.weights[EPOCHS - 1]), name


@EXISTING
@pytest.mark.parametrize("step", [2, 5, 7])
def test_from_the_middle_of_an_epoch_it_refuses(quiet_trainer, image_folder, tmp_path, step):
    """Five steps an epoch; the checkpoint after the fifth comes before the epoch's validation."""

    def fit(ckpt_path=None):
        saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=step, auto_insert_metric_name=False)
        trainer = quiet_trainer(max_epochs=2, callbacks=[by_epoch(), saving], enable_checkpointing=True)
        trainer.fit(fine_tuning(), images_of(image_folder), ckpt_path=ckpt_path, weights_only=True)

    fit()
    paths = list(tmp_path.glob("*.ckpt"))
    assert paths
    for path in paths:
        with pytest.raises(
            ModuleError, match=r"saved in the middle of an epoch, .*resume from a checkpoint of an epoch's"
        ):
            fit(path)


@EXISTING
@pytest.mark.parametrize("at_validation", [False, True], ids=["after the epoch", "after validation"])
@pytest.mark.parametrize("augmentation", [Augmentation(), None])
def test_workers_that_fetch_ahead_do_not_matter(
    quiet_trainer, image_folder, tmp_path, augmentation, at_validation
):
    """Lightning makes a resumed run's first iterator before it tells the sampler which epoch it is in."""

    def fit(epochs, folder, workers, ckpt_path=None):
        saving = every_epoch(tmp_path / folder, at_validation)
        trainer = quiet_trainer(max_epochs=epochs, callbacks=[by_epoch(), saving], enable_checkpointing=True)
        data = images_of(image_folder, num_workers=workers, augmentation=augmentation)
        trainer.fit(fine_tuning(), data, ckpt_path=ckpt_path, weights_only=True)
        return saved(tmp_path / folder / f"{epochs - 1}.ckpt")

    whole = fit(4, "whole", 0)
    fit(2, "stopped", 1)  # it thought it was at its end
    for stopped in range(2):
        path = tmp_path / "stopped" / f"{stopped}.ckpt"
        assert differing(whole, fit(4, f"from {stopped}", 2, path)) == [], stopped
