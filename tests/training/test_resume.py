"""A resumed run ends with the checkpoint of the run that was never stopped, bit by bit.

With shuffling, augmentation, dropout and BatchNorm, resumed across an unfreeze and exactly at one.
"""

import pytest
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from lightning_transfer import AdaptiveUnfreeze, Augmentation, StagedUnfreeze
from lightning_transfer.errors import ModuleError
from runs import EXISTING, Watch, differing, every_epoch, fine_tuning, images_of, saved

# The resumed run saves elsewhere, so that both can be compared.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

EPOCHS = 5
STOPPED = (1, 2)  # by epoch: in the middle of a phase, and right before an unfreeze
BY_EPOCH = {0: ["head"], 1: ["last_conv"], 3: ["block5"]}
STAGES = ["head", "last_conv", ["block5", "block4"]]


def by_epoch():
    return StagedUnfreeze(BY_EPOCH)


def adaptive():
    # At most two epochs a step, so that both unfreezes happen within the run; each begins with the best weights.
    return AdaptiveUnfreeze(STAGES, "validation/loss", patience=1, max_epochs_per_step=2, restore_best=True)


PLATEAU = {"scheduler": "plateau", "scheduler_options": {"patience": 0, "factor": 0.5}}
COSINE = {"scheduler": "cosine", "warmup_steps": 3, "label_smoothing": 0.1}
MEAN = (lambda: EMAWeightAveraging(decay=0.9, update_starting_at_step=0),)
# Callback, arguments of the module, further callbacks; whether checkpoints are saved at validation.
VARIANTS = {
    "constant rates": (by_epoch, {}, (), False),
    "one cycle": (by_epoch, {"scheduler": "one_cycle", "warmup_steps": 7}, (), True),
    "plateau": (by_epoch, PLATEAU, (), True),
    "averaged": (by_epoch, {}, MEAN, False),
    "adaptive": (adaptive, {}, (), True),
    "adaptive, cosine": (adaptive, COSINE, (), False),
    "adaptive, averaged": (adaptive, {}, MEAN, True),
}


@pytest.fixture
def fit(quiet_trainer, image_folder, tmp_path):
    """Fits, saving each epoch, and returns what was watched and the folder."""

    def fit(folder, variant, ckpt_path=None):
        unfreeze, arguments, others, at_validation = VARIANTS[variant]
        watch = Watch()
        saving = every_epoch(tmp_path / folder, at_validation)
        callbacks = [unfreeze(), watch, *(make() for make in others), saving]
        trainer = quiet_trainer(max_epochs=EPOCHS, callbacks=callbacks, enable_checkpointing=True)
        model = fine_tuning(**arguments)
        trainer.fit(model, images_of(image_folder), ckpt_path=ckpt_path, weights_only=True)
        return watch, tmp_path / folder

    return fit


@pytest.mark.slow
@EXISTING
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_ends_the_same(fit, variant):
    watch, folder = fit("whole", variant)
    whole = saved(folder / f"{EPOCHS - 1}.ckpt")
    unfreezes = [epoch for epoch in range(1, EPOCHS) if watch.trained[epoch] != watch.trained[epoch - 1]]
    assert len(unfreezes) == 2
    assert unfreezes[-1] < EPOCHS
    for stopped in STOPPED:
        again, resumed = fit(f"from {stopped}", variant, folder / f"{stopped}.ckpt")
        assert differing(whole, saved(resumed / f"{EPOCHS - 1}.ckpt")) == [], stopped
        for epoch in range(stopped + 1, EPOCHS):
            assert differing(watch.scores[epoch], again.scores[epoch]) == [], (stopped, epoch)
            assert watch.trained[epoch] == again.trained[epoch]
            assert watch.modes[epoch] == again.modes[epoch]


def test_runs_of_other_seeds_differ(fit, quiet_trainer, image_folder, tmp_path):
    """So the comparison above finds a difference in dropout, or in order and augmentation."""
    plain = fit("plain", "constant rates")[0].weights[EPOCHS - 1]
    for name, model_seed, data_seed in (("dropout", 1, 0), ("order and augmentation", 0, 1)):
        watch = Watch()
        trainer = quiet_trainer(max_epochs=EPOCHS, callbacks=[by_epoch(), watch])
        trainer.fit(fine_tuning(seed=model_seed), images_of(image_folder, seed=data_seed))
        assert differing(plain, watch.weights[EPOCHS - 1]), name


@EXISTING
@pytest.mark.parametrize("step", [2, 5, 7])
def test_from_the_middle_of_an_epoch_it_refuses(quiet_trainer, image_folder, tmp_path, step):
    """There are five steps an epoch; the checkpoint after the fifth is saved before the epoch's validation."""

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
@pytest.mark.parametrize(
    ("augmentation", "at_validation"),
    [(Augmentation(), True), pytest.param(None, False, marks=pytest.mark.nightly)],
)
def test_workers_that_fetch_ahead_do_not_matter(
    quiet_trainer, image_folder, tmp_path, augmentation, at_validation
):
    """Lightning makes a resumed run's first iterator before it tells the sampler the epoch."""

    def fit(epochs, folder, workers, ckpt_path=None):
        saving = every_epoch(tmp_path / folder, at_validation)
        trainer = quiet_trainer(max_epochs=epochs, callbacks=[by_epoch(), saving], enable_checkpointing=True)
        data = images_of(image_folder, num_workers=workers, augmentation=augmentation)
        trainer.fit(fine_tuning(), data, ckpt_path=ckpt_path, weights_only=True)
        return saved(tmp_path / folder / f"{epochs - 1}.ckpt")

    whole = fit(4, "whole", 0)
    fit(2, "stopped", 1)  # its last epoch is not the whole run's last
    for stopped in range(2):
        path = tmp_path / "stopped" / f"{stopped}.ckpt"
        assert differing(whole, fit(4, f"from {stopped}", 2, path)) == [], stopped
