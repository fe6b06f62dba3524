"""When the next stage unfreezes, against epochs counted by hand from given scores."""

import pytest
import torch

from lightning_transfer import AdaptiveUnfreeze
from lightning_transfer.errors import ScheduleError
from runs import Stranger, Watch, fine_tuning, images_of, noise

STAGES = ["top", "neck", "body"]


class Scored(Stranger):
    """Its validation logs a score that was given for each epoch."""

    def __init__(self, scores):
        super().__init__()
        self.given = scores

    def validation_step(self, batch, batch_idx):
        self.log("score", self.given[self.current_epoch])


@pytest.fixture
def fit(quiet_trainer):
    def fit(scores, stages=STAGES, trainer=None, **arguments):
        watch, unfreeze = Watch(), AdaptiveUnfreeze(stages, **({"monitor": "score"} | arguments))
        quiet_trainer(**({"max_epochs": len(scores), "callbacks": [unfreeze, watch]} | (trainer or {}))).fit(
            model := Scored(scores), noise()
        )
        return unfreeze, watch, model

    return fit


@pytest.mark.parametrize(
    ("scores", "arguments", "starts"),
    [
        # Best in epoch 1, none better in 2 and 3: neck from 4 on. Better in 5, none in 6 and 7: body from 8 on.
        ([5, 4, 4, 4, 4, 3, 3, 3, 3], {"patience": 2}, {"top": 0, "neck": 4, "body": 8}),
        # What is no better when a step begins counts from there, not from the best epoch before it.
        ([5, 4, 4, 4, 4, 4, 4], {"patience": 2}, {"top": 0, "neck": 4, "body": 6}),
        ([5, 4, 3, 2, 1], {"patience": 1}, {"top": 0}),
        ([5, 4, 3, 2, 1, 0], {"patience": 9, "max_epochs_per_step": 2}, {"top": 0, "neck": 2, "body": 4}),
        (
            [5, 4, 3, 2, 1, 0],
            {"patience": 9, "max_epochs_per_step": {"top": 1, "neck": 3}},
            {"top": 0, "neck": 1, "body": 4},
        ),
        ([5, 4, 3, 2, 1, 0], {"patience": 9, "max_epochs_per_step": {"neck": 1}}, {"top": 0}),
        ([1, 2, 2, 3, 3, 3], {"patience": 1, "mode": "max"}, {"top": 0, "neck": 3, "body": 5}),
        ([5, 4.9, 4.8, 4.7], {"patience": 2, "min_delta": 0.5}, {"top": 0, "neck": 3}),
        ([5, 6, 7], {"patience": 1, "stages": ["top", ["neck", "body"]]}, {"top": 0, "neck": 2, "body": 2}),
        ([float("nan")] * 4, {"patience": 2}, {"top": 0, "neck": 2, "body": 4}),
    ],
)
def test_the_next_step_follows_when_the_score_stands_still(fit, scores, arguments, starts):
    unfreeze, watch, _ = fit(scores, **arguments)
    assert unfreeze.starts == starts
    for epoch, trained in watch.trained.items():
        assert trained == {name for name, start in starts.items() if start <= epoch}


def test_several_validations_an_epoch_decide_once(fit):
    unfreeze, _, _ = fit([5, 4, 4, 4], patience=1, trainer={"val_check_interval": 2})
    assert unfreeze.starts == {"top": 0, "neck": 3, "body": 4}


def test_it_goes_back_to_the_best_weights_before_a_step(fit):
    scores = [5, 1, 2, 3, 4]
    _, watch, model = fit(scores, ["top", "neck"], patience=2, restore_best=True)
    assert watch.trained[4] == {"top", "neck"}
    _, ahead, other = fit(scores[:4], ["top"], patience=2)
    # By hand: the weights of epoch 1, and from there one epoch with the neck.
    other.load_state_dict(ahead.weights[1])
    other.body.eval()
    other.neck.train()
    parameters = [*other.neck.parameters(), *other.top.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    for images, labels in noise():
        loss = torch.nn.functional.cross_entropy(other(images), labels)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter -= 0.1 * gradient
    for key, value in other.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, msg=lambda text, key=key: f"{key}: {text}")


def test_a_second_fit_begins_anew(quiet_trainer):
    unfreeze = AdaptiveUnfreeze(STAGES, "score", patience=1)
    for _ in range(2):
        quiet_trainer(max_epochs=4, callbacks=[unfreeze]).fit(Scored([5, 4, 3, 3]), noise())
        assert unfreeze.starts == {"top": 0, "neck": 4}


def test_a_score_that_nobody_logs_is_named(quiet_trainer, image_folder):
    trainer = quiet_trainer(max_epochs=1, callbacks=[AdaptiveUnfreeze(["head", "last_conv"], "val_loss")])
    with pytest.raises(
        ScheduleError, match=r"monitor='val_loss' is not logged by validation, which logs .*validation/lo"
    ):
        trainer.fit(fine_tuning(), images_of(image_folder))


def test_a_fit_without_validation_is_refused(quiet_trainer, image_folder):
    trainer = quiet_trainer(max_epochs=1, callbacks=[AdaptiveUnfreeze(["head", "last_conv"])], limit_val_batches=0)
    with pytest.raises(ScheduleError, match="AdaptiveUnfreeze decides when validation ends, and there is none"):
        trainer.fit(fine_tuning(), images_of(image_folder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "most"}, "mode='most': wanted min or max"),
        ({"patience": 0}, "patience=0: wanted a whole number from 1 on"),
        ({"max_epochs_per_step": 0}, "max_epochs_per_step=0: wanted whole numbers from 1 on"),
        ({"max_epochs_per_step": {"nose": 3}}, "max_epochs_per_step names nose; stages has top, neck, body"),
        ({"stages": []}, "wanted one that begins with epoch 0"),
        ({"stages": ["top", "top"]}, "unfreezes top more than once"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(arguments, message):
    with pytest.raises(ScheduleError, match=message):
        AdaptiveUnfreeze(**({"stages": STAGES} | arguments))


def test_other_settings_on_resume_show_both(quiet_trainer, tmp_path):
    trainer = quiet_trainer(max_epochs=1, callbacks=[AdaptiveUnfreeze(STAGES, "score", patience=3)])
    trainer.fit(Scored([1, 1]), noise())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    trainer = quiet_trainer(max_epochs=2, callbacks=[AdaptiveUnfreeze(STAGES, "score", patience=2)])
    with pytest.raises(ScheduleError, match=r"made with .*patience=3.*; this run has .*patience=2"):
        trainer.fit(Scored([1, 1]), noise(), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
