"""When the next stage unfreezes, against epochs counted by hand from given scores."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging

from lightning_transfer import AdaptiveUnfreeze
from lightning_transfer.errors import ScheduleError
from runs import Scored, Watch, copied, fine_tuning, images_of, noise

STAGES = ["top", "neck", "body"]


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


class Copies(Callback):
    """Copies the weights that validation scores in each epoch, and those that each epoch begins with."""

    def __init__(self):
        self.scored, self.first = {}, {}

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0:
            self.scored[trainer.current_epoch] = copied(pl_module.state_dict())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.first[trainer.current_epoch] = copied(pl_module.state_dict())


@pytest.mark.parametrize("order", [1, -1])
def test_with_averaged_weights_it_goes_back_to_those_that_were_scored(quiet_trainer, order):
    """Best in epoch 1, so that neck begins in epoch 4, and body in epoch 6, with what epoch 1 scored."""
    unfreeze = AdaptiveUnfreeze(STAGES, "score", patience=2, restore_best=True)
    averaging = EMAWeightAveraging(decay=0.7, update_starting_at_step=0)
    callbacks = [unfreeze, averaging, copies := Copies()][::order]
    quiet_trainer(max_epochs=8, num_sanity_val_steps=0, callbacks=callbacks).fit(
        Scored([5, 1, 2, 3, 4, 4, 4, 4]), noise()
    )
    assert unfreeze.starts == {"top": 0, "neck": 4, "body": 6}
    best, first = copies.scored[1], copies.first
    assert not torch.equal(best["top.1.weight"], first[2]["top.1.weight"]), "they are no averages"
    for name, value in best.items():
        if name.startswith("top"):
            assert torch.equal(first[4][name], value), name
            assert torch.equal(first[6][name], value), name
        if name.startswith("body"):  # frozen until then: not even rounded
            assert torch.equal(first[6][name], first[0][name]), name


def test_after_the_last_step_no_weights_are_kept(fit):
    unfreeze, _, _ = fit([5, 1, 2, 3, 4], ["top", "neck"], patience=2, restore_best=True)
    assert unfreeze.starts == {"top": 0, "neck": 4}
    assert unfreeze.state_dict()["decided"]["best_weights"] is None


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
