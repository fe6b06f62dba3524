"""What somebody else has frozen inside a stage stays so, is no fault, and is not counted; `train_norm=False`."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from lightning_transfer import (
    AdaptiveUnfreeze,
    FineTuningClassifier,
    FreezeAudit,
    StagedUnfreeze,
)
from lightning_transfer.errors import AuditError, ScheduleError
from runs import EXISTING, Halt, Stranger, Watch, copied, differing, every_epoch, fine_tuning, images_of, noise

SCHEDULE = {0: ["head"], 1: ["last_conv"], 2: ["block5"]}


def norms(module):
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def hold(module, parameters=True):
    """The usual recipe, on all of a backbone."""
    for norm in norms(module.backbone):
        norm.eval()
        if parameters:
            norm.requires_grad_(False)


class Hold(Callback):
    """The recipe at each epoch's start."""

    def __init__(self, parameters=True):
        self.parameters = parameters

    def on_train_epoch_start(self, trainer, pl_module):
        hold(pl_module, self.parameters)


class Holding(FineTuningClassifier):
    """The recipe in a hook of the module."""

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        hold(self)


class HoldingModes(FineTuningClassifier):
    """The recipe as Keras and detectron2 have it: whatever sets training mode leaves BatchNorm alone."""

    def train(self, mode=True):
        super().train(mode)
        for norm in norms(self.backbone):
            norm.eval()
        return self


def made(cls=FineTuningClassifier):
    model = fine_tuning()
    torch.manual_seed(0)
    return model if cls is FineTuningClassifier else cls(**model.hparams)


def held_before_the_fit(parameters):
    model = made()
    hold(model, parameters)
    return model, []


WAYS = {
    "before the fit": lambda: held_before_the_fit(True),
    "before the fit, modes alone": lambda: held_before_the_fit(False),
    "in a callback before the schedule": lambda: (made(), [Hold(), None]),
    "in a callback before it, modes alone": lambda: (made(), [Hold(False), None]),
    "in a callback after the schedule": lambda: (made(), [None, Hold()]),
    "in the module's hook": lambda: (made(Holding), []),
    "in the module's train()": lambda: (made(HoldingModes), []),
}


# Lightning's own word, rightly, where layers are in eval mode when a fit begins.
@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
@pytest.mark.parametrize("way", WAYS)
def test_batchnorm_that_is_held_stays_as_it_was_and_the_rest_trains(quiet_trainer, image_folder, way):
    model, others = WAYS[way]()
    before = copied(model.backbone.stages.state_dict())
    callbacks = [each or StagedUnfreeze(SCHEDULE) for each in others or [None]]
    trainer = quiet_trainer(max_epochs=4, callbacks=callbacks)
    trainer.fit(model, images_of(image_folder))
    assert any(isinstance(callback, FreezeAudit) for callback in trainer.callbacks)
    for name, stage in model.backbone.stages.items():
        unfrozen = name in ("last_conv", "block5")
        for part_name, part in stage.named_modules():
            for key, value in part.state_dict().items():
                if "." in key:
                    continue
                same = torch.equal(value, before[".".join(filter(None, [name, part_name, key]))])
                is_norm = isinstance(part, nn.BatchNorm2d)
                affine_trains = is_norm and part.weight.requires_grad and not key.startswith(("running", "num"))
                assert same == (not unfrozen or (is_norm and not affine_trains)), (name, part_name, key)


def test_a_layer_all_of_whose_parameters_are_frozen_keeps_its_statistics(quiet_trainer, image_folder):
    """Most people forget the eval mode."""
    model = fine_tuning()
    for norm in norms(model.backbone):
        norm.requires_grad_(False)
    before = [copied(norm.state_dict()) for norm in norms(model.backbone)]
    quiet_trainer(max_epochs=3, callbacks=[StagedUnfreeze(SCHEDULE)]).fit(model, images_of(image_folder))
    assert differing(before, [norm.state_dict() for norm in norms(model.backbone)]) == []


def test_what_really_trains_is_counted_and_told(quiet_trainer, image_folder, tmp_path, capsys):
    model = fine_tuning()
    kept = model.backbone.stages["block5"][0]
    kept.requires_grad_(False)
    before = copied(kept.state_dict())
    trainer = quiet_trainer(
        max_epochs=3,
        callbacks=[StagedUnfreeze(SCHEDULE)],
        logger=CSVLogger(tmp_path, name=None),
        log_every_n_steps=1,
    )
    trainer.fit(model, images_of(image_folder))
    assert differing(before, kept.state_dict()) == []
    trains = sum(p.numel() for p in model.parameters() if p.requires_grad)
    size = {name: sum(p.numel() for p in stage.parameters()) for name, stage in model.stages.items()}
    left = size["block5"] - sum(p.numel() for p in kept.parameters())
    assert 0 < left < size["block5"]
    assert trains == size["head"] + size["last_conv"] + left
    assert int(trainer.callback_metrics["stages/trainable_parameters"]) == trains
    table = capsys.readouterr().out.rpartition("epoch ")[2]
    cells = next(line.split() for line in table.splitlines() if line.split()[:1] == ["block5"])
    assert cells[1:3] == [f"{size['block5']:,}", f"{left:,}"]


class HalfFrozen(Stranger):
    """Somebody has frozen the neck's convolution, and gives the optimizer what trains, as most scripts do."""

    def __init__(self):
        super().__init__(self.of_what_trains)
        self.neck[0].requires_grad_(False)

    def of_what_trains(self, module):
        left_out = [id(parameter) for parameter in self.neck[0].parameters()]
        return torch.optim.SGD([p for p in module.parameters() if id(p) not in left_out], 0.1)


def test_the_optimizer_may_lack_what_others_have_frozen(quiet_trainer):
    model = HalfFrozen()
    before = copied(model.state_dict())
    quiet_trainer(max_epochs=2, callbacks=[StagedUnfreeze({0: ["top"], 1: ["neck"]}), FreezeAudit()]).fit(
        model, noise()
    )
    after = model.state_dict()
    assert torch.equal(before["neck.0.weight"], after["neck.0.weight"])
    assert not torch.equal(before["neck.1.weight"], after["neck.1.weight"])


def test_a_stage_of_which_nothing_trains_is_told(quiet_trainer):
    model = Stranger()
    model.neck.requires_grad_(False)
    trainer = quiet_trainer(max_epochs=2, callbacks=[StagedUnfreeze({0: ["top"], 1: ["neck"]})])
    with pytest.warns(
        UserWarning, match="Nothing of neck trains, though the schedule unfreezes it: something else"
    ):
        trainer.fit(model, noise())


def test_what_somebody_freezes_later_ends_a_phase_and_is_no_fault(quiet_trainer):
    class Later(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            pl_module.neck[0].requires_grad_(trainer.current_epoch < 2)

    model, watch = Stranger(), Watch()
    callbacks = [StagedUnfreeze({0: ["top", "neck"]}), FreezeAudit(), Later(), watch]
    quiet_trainer(max_epochs=4, callbacks=callbacks).fit(model, noise())
    assert torch.equal(watch.weights[1]["neck.0.weight"], watch.weights[3]["neck.0.weight"])
    assert not torch.equal(watch.weights[0]["neck.0.weight"], watch.weights[1]["neck.0.weight"])


def test_another_schedule_on_the_same_module_has_nothing_of_the_first(quiet_trainer):
    model = Stranger()
    model.body[0].requires_grad_(False)
    quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["top", "neck"]}, train_norm=False)]).fit(
        model, noise()
    )
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["top", "neck", "body"]}), Halt(0)])
    trainer.fit(model, noise())
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"body.0.weight"}
    assert {name for name, m in model.named_modules() if not m.training} == {"body.0"}


@pytest.mark.filterwarnings("ignore:Found 1 module.* in eval mode")  # the stranger itself, not its stages
def test_a_module_in_eval_mode_trains_all_the_same(quiet_trainer, image_folder):
    """As somebody leaves it who has looked at predictions."""
    model = fine_tuning().eval()
    watch = Watch()
    quiet_trainer(max_epochs=2, callbacks=[StagedUnfreeze(SCHEDULE), watch]).fit(model, images_of(image_folder))
    trained = {"head", "last_conv"}
    assert watch.modes[1] == {name: {name in trained} for name in model.stages}
    stranger = Stranger().eval()
    callbacks = [StagedUnfreeze({0: ["top", "neck"]}), watch := Watch()]
    quiet_trainer(max_epochs=1, callbacks=callbacks).fit(stranger, noise())
    assert watch.modes[0]["neck"] == {True}


def test_a_fine_tuning_module_freezes_nothing_before_a_fit():
    assert all(parameter.requires_grad for parameter in fine_tuning().parameters())


# --- train_norm=False


def test_without_norms_it_is_a_hand_written_loop(quiet_trainer, image_folder):
    model = fine_tuning(backbone="resnet18", dropout=0.0, layer_decay=0.5, weight_decay=0.1)
    expected = copy.deepcopy(model).double()
    trainer = quiet_trainer(
        max_epochs=3,
        precision="64-true",
        callbacks=[StagedUnfreeze({0: ["head"], 1: ["layer4"], 2: ["layer3"]}, train_norm=False)],
    )
    trainer.fit(model, images_of(image_folder))

    stages = [*expected.backbone.stages.values(), expected.head]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p], "lr": 1e-3 * 0.5**depth, "weight_decay": 0.1 if p.ndim > 1 else 0.0}
            for depth, stage in enumerate(reversed(stages))
            for p in stage.parameters()
        ]
    )
    dataset = images_of(image_folder).train_dataloader().dataset
    expected.eval()  # nothing but BatchNorm knows of modes here
    expected.requires_grad_(False)
    for epoch in range(3):
        for stage in stages[-1 - epoch :]:
            for part in stage.modules():
                if not isinstance(part, nn.BatchNorm2d):
                    for parameter in part.parameters(recurse=False):
                        parameter.requires_grad_(True)
        order = np.random.default_rng([0, epoch]).permutation(len(dataset))
        for places in np.split(order, range(5, len(order), 5)):
            images, labels = zip(*(dataset[epoch, int(place)] for place in places), strict=True)
            optimizer.zero_grad()
            F.cross_entropy(expected(torch.stack(images)), torch.tensor(labels)).backward()
            optimizer.step()
    for key, value in expected.network.state_dict().items():
        torch.testing.assert_close(
            model.network.state_dict()[key],
            value,
            rtol=1e-7,
            atol=1e-7,
            msg=lambda text, key=key: f"{key}: {text}",
        )


class Normed(Stranger):
    """A norm of each kind in the neck, and one in the head."""

    def __init__(self):
        super().__init__()
        kinds = [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([4, 4, 4])]
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 3), *kinds, nn.RMSNorm(4), nn.AdaptiveAvgPool2d(1))
        self.top = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: StagedUnfreeze({0: ["top"], 1: ["neck"]}, train_norm=False),
        lambda: AdaptiveUnfreeze(["top", "neck"], "loss", max_epochs_per_step=1, train_norm=False),
    ],
)
def test_every_kind_of_norm_stays_and_those_of_the_head_train(quiet_trainer, schedule):
    model = Normed()
    before = copied(model.state_dict())
    callbacks = [schedule(), FreezeAudit(), watch := Watch()]
    quiet_trainer(max_epochs=3, callbacks=callbacks).fit(model, noise())
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key for key in changed if key.startswith("top.1.")} == {
        key for key in before if key.startswith("top.1.")
    }
    assert {key for key in changed if key.startswith("neck")} - {"neck.0.bias"} == {"neck.0.weight"}
    assert watch.modes[2]["top"] == {True}
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trains if name.startswith("neck")} == {"neck.0.weight", "neck.0.bias"}


def test_a_norm_that_something_unfreezes_is_a_fault(quiet_trainer):
    class Unfreeze(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            pl_module.neck[1].requires_grad_(True)

    callbacks = [StagedUnfreeze({0: ["top", "neck"]}, train_norm=False), FreezeAudit(), Unfreeze()]
    with pytest.raises(AuditError, match=r"changed what trains, in epoch 0: neck\.1\.bias, neck\.1\.weight"):
        quiet_trainer(max_epochs=1, callbacks=callbacks).fit(Stranger(), noise())


def test_dropout_beside_a_norm_still_drops(quiet_trainer):
    class Dropping(Stranger):
        def __init__(self):
            super().__init__()
            normed = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5))
            self.neck = nn.Sequential(nn.Conv2d(4, 4, 3), normed, nn.AdaptiveAvgPool2d(1))

    model = Dropping()
    trainer = quiet_trainer(max_epochs=2, callbacks=[StagedUnfreeze({0: ["top", "neck"]}, train_norm=False)])
    trainer.fit(model, noise())
    assert model.neck[1][1].training
    assert not model.neck[1][0].training


@EXISTING
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_without_norms_ends_the_same(quiet_trainer, image_folder, tmp_path):
    def fit(folder, ckpt_path=None):
        schedule = StagedUnfreeze(SCHEDULE, train_norm=False)
        trainer = quiet_trainer(
            max_epochs=4, callbacks=[Hold(), schedule, every_epoch(tmp_path / folder)], enable_checkpointing=True
        )
        trainer.fit(model := fine_tuning(), images_of(image_folder), ckpt_path=ckpt_path, weights_only=True)
        return model.state_dict(), trainer.optimizers[0].state_dict()

    whole = fit("whole")
    for stopped in range(3):
        assert differing(whole, fit(f"from {stopped}", tmp_path / "whole" / f"{stopped}.ckpt")) == [], stopped


@pytest.mark.parametrize(
    "schedule",
    [
        lambda **arguments: StagedUnfreeze({0: ["top"]}, **arguments),
        lambda **arguments: AdaptiveUnfreeze(["top"], "loss", **arguments),
    ],
)
def test_it_is_a_setting_that_a_resumed_run_shares(quiet_trainer, tmp_path, schedule):
    def fit(epochs, ckpt_path=None, **arguments):
        trainer = quiet_trainer(max_epochs=epochs, callbacks=[schedule(**arguments)])
        trainer.fit(Stranger(), noise(), ckpt_path=ckpt_path, weights_only=True)
        return trainer

    fit(1).save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(ScheduleError, match=r"made with .*train_norm=True; this run has .*train_norm=False"):
        fit(2, tmp_path / "one.ckpt", train_norm=False)
    # A checkpoint of before it was a setting: norms trained.
    checkpoint = torch.load(tmp_path / "one.ckpt", weights_only=True)
    for state in checkpoint["callbacks"].values():
        state.pop("train_norm", None)
    torch.save(checkpoint, tmp_path / "old.ckpt")
    fit(2, tmp_path / "old.ckpt")
