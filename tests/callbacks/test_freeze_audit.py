"""The audit catches what was done behind its back, by name, and nothing else."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from lightning_transfer import FreezeAudit, FrozenBackboneClassifier, StagedUnfreeze
from lightning_transfer.errors import AuditError
from runs import EXISTING, Stranger, every_epoch, fine_tuning, images_of, noise


class Meddle(Callback):
    """Does something to a module after each step of one epoch."""

    def __init__(self, action, epoch=0):
        self.action = action
        self.epoch = epoch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch:
            self.action(pl_module)


@pytest.fixture
def fit(quiet_trainer):
    def fit(model, *callbacks, schedule=None, **arguments):
        schedule = schedule or {0: ["top"], 1: ["neck"]}
        trainer = quiet_trainer(
            **({"max_epochs": 2, "callbacks": [StagedUnfreeze(schedule), FreezeAudit(), *callbacks]} | arguments)
        )
        trainer.fit(model, noise())

    return fit


def nudge(parameter):
    with torch.no_grad():
        parameter[(0,) * parameter.ndim].nextafter_(torch.tensor(9.0))


def test_one_bit_in_something_frozen_fails_the_run_by_name(fit):
    with pytest.raises(AuditError, match=r"FreezeAudit, epoch 0: frozen, but changed: body\.0\.weight\."):
        fit(Stranger(), Meddle(lambda module: nudge(module.body[0].weight)))


def test_it_looks_at_the_end_of_each_phase(fit):
    with pytest.raises(AuditError, match=r"epoch 0: frozen, but changed: neck\.0\.weight\."):
        fit(Stranger(), Meddle(lambda module: nudge(module.neck[0].weight)))
    with pytest.raises(AuditError, match=r"epochs 1 to 2: frozen, but changed: body\.0\.weight\."):
        fit(Stranger(), Meddle(lambda module: nudge(module.body[0].weight), epoch=2), max_epochs=3)
    fit(Stranger(), Meddle(lambda module: nudge(module.neck[0].weight), epoch=1))


def test_batchnorm_in_training_mode_is_caught_by_its_statistics(fit):
    class Careless(Stranger):
        def training_step(self, batch, batch_idx):
            self.body.train()
            return super().training_step(batch, batch_idx)

    with pytest.raises(
        AuditError,
        match=r"frozen, but changed: body\.1\.num_batches_tracked, body\.1\.running_mean, body\.1\.running_v",
    ):
        fit(Careless())


def test_a_layer_that_no_loss_depends_on_is_named(fit):
    class Detached(Stranger):
        def forward(self, images):
            return self.top(self.neck(self.body(images)).detach())

    with pytest.raises(
        AuditError, match=r"epoch 1: to be trained, but not changed: neck\.0\.bias, neck\.0\.weight"
    ):
        fit(Detached())


def test_what_the_optimizer_lacks_is_named(quiet_trainer):
    def without_the_top(module):
        return torch.optim.SGD([*module.body.parameters(), *module.neck.parameters()], 0.1)

    trainer = quiet_trainer(max_epochs=1, callbacks=[FreezeAudit()])
    with pytest.raises(
        AuditError, match=r"not changed: top\.1\.bias, top\.1\.weight \(.* does the optimizer have them"
    ):
        trainer.fit(Stranger(without_the_top), noise())


def test_what_rounds_away_is_no_fault(fit):
    """A convolution's bias before BatchNorm has no gradient but rounding's; a rate may be too small for any."""
    fit(Stranger())
    fit(Stranger(lambda module: torch.optim.SGD(module.parameters(), lr=1e-12)))
    fit(Stranger(lambda module: torch.optim.AdamW(module.parameters(), lr=1e-12)))


def test_a_rate_of_nought_is_one(fit):
    def without_a_rate_for_the_neck(module):
        groups = [{"params": module.neck.parameters(), "lr": 0.0}, {"params": module.top.parameters()}]
        return torch.optim.SGD([*groups, {"params": module.body.parameters()}], lr=0.1)

    with pytest.raises(
        AuditError, match=r"epoch 1: to be trained, but not changed: neck\.0\.bias, neck\.0\.weight"
    ):
        fit(Stranger(without_a_rate_for_the_neck))


def test_somebody_elses_unfreeze_is_told(fit):
    class Thaw(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            pl_module.body.requires_grad_(True)

    with pytest.raises(
        AuditError, match=r"Something other than the schedule changed what trains, in epoch 0: body\.0"
    ):
        fit(Stranger(), Thaw())


def test_alone_it_judges_by_what_asks_for_gradients(quiet_trainer):
    class HalfFrozen(Stranger):
        def __init__(self):
            super().__init__()
            self.body.requires_grad_(False)

    trainer = quiet_trainer(max_epochs=1, callbacks=[FreezeAudit()])
    with pytest.raises(
        AuditError, match=r"frozen, but changed: body\.1\.num_batches_tracked, body\.1\.running_mean"
    ):
        trainer.fit(HalfFrozen(), noise())


@pytest.mark.parametrize("order", [1, -1])
def test_averaged_weights_are_none_of_its_business(quiet_trainer, order):
    averaging = EMAWeightAveraging(decay=0.5, update_starting_at_step=0)
    callbacks = [averaging, FreezeAudit(), StagedUnfreeze({0: ["top"], 1: ["neck"]})][::order]
    quiet_trainer(max_epochs=3, callbacks=callbacks).fit(Stranger(), noise())


def test_accumulation_without_a_step_is_no_fault(fit):
    fit(Stranger(), accumulate_grad_batches=9, limit_train_batches=2, schedule={0: ["top"]})


def test_it_is_on_by_default_and_can_be_turned_off(quiet_trainer, image_folder):
    def fit(**arguments):
        model = FrozenBackboneClassifier("squeezenet1_1", weights=None, image_size=32, hidden=4, **arguments)
        meddle = Meddle(lambda module: nudge(module.backbone.stages["stem"].conv1.weight))
        quiet_trainer(max_epochs=1, callbacks=[meddle]).fit(model, images_of(image_folder))

    with pytest.raises(AuditError, match=r"frozen, but changed: network\.backbone\.stages\.stem\.conv1\.weight"):
        fit()
    fit(audit_freezing=False)


@EXISTING
def test_a_phase_that_was_interrupted_is_compared_with_its_beginning(quiet_trainer, tmp_path):
    def fit(epochs, ckpt_path=None):
        callbacks = [StagedUnfreeze({0: ["top"]}), FreezeAudit(), every_epoch(tmp_path)]
        trainer = quiet_trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=True)
        trainer.fit(Stranger(), noise(), ckpt_path=ckpt_path)

    fit(1)
    fit(2, tmp_path / "0.ckpt")
    checkpoint = torch.load(tmp_path / "0.ckpt", weights_only=True)
    nudge(checkpoint["state_dict"]["neck.0.weight"])
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(AuditError, match=r"epochs 0 to 1: frozen, but changed: neck\.0\.weight"):
        fit(2, tmp_path / "other.ckpt")


def test_many_names_are_counted(quiet_trainer, image_folder):
    def spoil(module):
        for stage in module.backbone.stages.values():
            for parameter in stage.parameters():
                nudge(parameter)

    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["head"]}), Meddle(spoil)])
    model = fine_tuning()
    number = len(list(model.backbone.parameters()))
    with pytest.raises(AuditError, match=rf"frozen, but changed: (.*, ){{7}}.* and {number - 8} more"):
        trainer.fit(model, images_of(image_folder))


def test_buffers_of_the_module_itself_tell_nothing(fit):
    class Counting(Stranger):
        def __init__(self):
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))
            self.meter = nn.Module()
            self.meter.register_buffer("steps", torch.zeros(()))

        def training_step(self, batch, batch_idx):
            self.steps += 1
            self.meter.steps += 1
            return super().training_step(batch, batch_idx)

    fit(Counting())
