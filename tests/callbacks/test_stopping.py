"""EarlyStopping counts afresh at an unfreeze, and a warning says which stages never came, and why."""

import warnings
from contextlib import suppress

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, Timer

from lightning_transfer import AdaptiveUnfreeze, StagedUnfreeze
from runs import EXISTING, Halt, Scored, Watch, every_epoch, noise

FLAT = [1.0] * 12


class Stop(Callback):
    """Raises in an epoch."""

    def __init__(self, epoch, exception):
        self.epoch, self.exception = epoch, exception

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch:
            raise self.exception


class Depleted(Timer):
    """Its time is up in an epoch, whatever the clock says."""

    def __init__(self, epoch):
        super().__init__(duration={"hours": 1})
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        self._offset = 3600 if trainer.current_epoch == self.epoch else 0
        self._check_time_remaining(trainer)


@pytest.fixture
def fit(quiet_trainer):
    """Fits with given scores, and gives the epochs that ran and what was said of stages that never unfreeze."""

    def fit(*callbacks, scores=FLAT, ckpt_path=None, **arguments):
        watch = Watch()
        trainer = quiet_trainer(**({"max_epochs": len(scores), "callbacks": [*callbacks, watch]} | arguments))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with suppress(SystemExit, ZeroDivisionError):
                trainer.fit(Scored(scores), noise(), ckpt_path=ckpt_path, weights_only=True)
        said = [str(warning.message) for warning in caught if "not unfreeze" in str(warning.message)]
        return list(watch.steps), said

    return fit


def test_early_stopping_counts_afresh_at_each_unfreeze(fit):
    """The score never improves after epoch 0: without an unfreeze the third epoch after it would be the last."""
    epochs, said = fit(EarlyStopping("score", patience=3), StagedUnfreeze({0: ["top"], 2: ["neck"], 4: ["body"]}))
    assert epochs == [0, 1, 2, 3, 4, 5, 6]
    assert said == []


def test_an_epoch_that_improves_is_not_forgotten(fit):
    """Only the count begins again, not the best score: 2 is worse than the 1 of before the unfreeze."""
    early = EarlyStopping("score", patience=2)
    epochs, _ = fit(early, StagedUnfreeze({0: ["top"], 1: ["neck"]}), scores=[1, 3, 2, 1.5, 1.2])
    assert epochs == [0, 1, 2]
    assert early.best_score == 1


@pytest.mark.parametrize("patience", [2, 3])
@pytest.mark.parametrize("order", [1, -1])
def test_a_step_that_a_score_decides_comes_before_the_run_is_stopped(fit, patience, order):
    """Both wait two epochs: the step is decided in the epoch in which EarlyStopping would end the run."""
    callbacks = [EarlyStopping("score", patience=patience), AdaptiveUnfreeze(["top", "neck", "body"], "score")]
    epochs, said = fit(*callbacks[::order])
    # Best in epoch 0: neck from 3 on, body from 5 on, and `patience` epochs more.
    assert epochs == list(range(5 + patience))
    assert said == []


@EXISTING
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("at_validation", [False, True])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda: StagedUnfreeze({0: ["top"], 2: ["neck"], 4: ["body"]}),
        lambda: AdaptiveUnfreeze(["top", "neck", "body"], "score", patience=2),
    ],
)
def test_a_resumed_run_stops_where_the_whole_one_does(fit, tmp_path, schedule, at_validation):
    def run(folder, ckpt_path=None):
        # A run resumed at validation has no score at its epoch's end, where Lightning would look for it.
        early = EarlyStopping("score", patience=3, check_on_train_epoch_end=not at_validation)
        saving = every_epoch(tmp_path / folder, at_validation)
        epochs, _ = fit(early, schedule(), saving, ckpt_path=ckpt_path, enable_checkpointing=True)
        return epochs, early.state_dict()

    epochs, state = run("whole")
    for stopped in epochs[:-1]:
        again, other = run(f"from {stopped}", tmp_path / "whole" / f"{stopped}.ckpt")
        assert again == epochs[stopped + 1 :]
        assert other == state


EARLY = "EarlyStopping stopped it (monitor='score', patience=1)"
STAGED = {0: ["top"], 4: ["neck"], 9: ["body"]}


@pytest.mark.parametrize(
    ("ending", "arguments", "reason"),
    [
        (EarlyStopping("score", patience=1), {}, f"epoch 1, since {EARLY}"),
        (None, {"max_steps": 7}, "epoch 1, since max_steps=7 was reached"),
        (Depleted(1), {}, "epoch 1, since its time was up (max_time, or a Timer)"),
        (Halt(2), {}, "epoch 2, since something asked the Trainer to stop (trainer.should_stop)"),
        (Stop(1, KeyboardInterrupt()), {}, "epoch 1, since it was interrupted (KeyboardInterrupt)"),
        (Stop(1, SystemExit(143)), {}, "epoch 1, since it was interrupted (SystemExit)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Callback) else None,
)
def test_a_run_that_ends_before_says_which_stages_never_came_and_why(fit, ending, arguments, reason):
    callbacks = [StagedUnfreeze(STAGED), *([ending] if ending else [])]
    _, said = fit(*callbacks, **arguments)
    assert said == [f"neck (epoch 4), body (epoch 9) did not unfreeze: the run ended in {reason}."]


def test_max_epochs_is_said_at_the_start_and_not_again(fit):
    _, said = fit(StagedUnfreeze(STAGED), max_epochs=6)
    assert said == ["body (epoch 9) will not unfreeze: the run has max_epochs=6."]
    _, said = fit(StagedUnfreeze(STAGED), Halt(1), max_epochs=6)
    assert said == [
        "body (epoch 9) will not unfreeze: the run has max_epochs=6.",
        "neck (epoch 4) did not unfreeze: the run ended in epoch 1, since something asked the Trainer to stop "
        "(trainer.should_stop).",
    ]


def test_what_a_score_did_not_decide_is_said_at_the_end(fit):
    _, said = fit(AdaptiveUnfreeze(["top", "neck", "body"], "score", patience=2), max_epochs=4)
    assert said == ["body did not unfreeze: the run ended in epoch 3, since max_epochs=4 was reached."]


@pytest.mark.parametrize(
    ("ending", "arguments"),
    [
        (None, {"fast_dev_run": True}),
        (None, {}),  # all of them came
        (Stop(1, ZeroDivisionError()), {}),  # an error speaks for itself
        (Stop(9, KeyboardInterrupt()), {}),  # in the epoch in which the last one came
    ],
)
def test_otherwise_nothing_is_said(fit, ending, arguments):
    assert fit(StagedUnfreeze(STAGED), *([ending] if ending else []), **arguments)[1] == []
