"""Staged unfreezing against a loop written by hand, with BatchNorm and without, and in strangers' modules."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from lightning_transfer import AdaptiveUnfreeze, FreezeAudit, StagedUnfreeze
from lightning_transfer.callbacks.schedule import check_trainer
from lightning_transfer.errors import ScheduleError
from runs import MOBILENET, Halt, Stranger, Watch, differing, fine_tuning, images_of, noise

SCHEDULE = {0: ["head"], 1: ["last_conv"], 3: ["block5", "block4"]}
TRAINED = [{"head"}, {"head", "last_conv"}, {"head", "last_conv"}, {"head", "last_conv", "block5", "block4"}]


@pytest.fixture
def fit(quiet_trainer, image_folder):
    """Fits with a schedule, and gives what was watched."""

    def fit(model, schedule=None, data=None, callbacks=(), **arguments):
        watch = Watch()
        unfreeze = schedule if isinstance(schedule, StagedUnfreeze) else StagedUnfreeze(schedule or SCHEDULE)
        trainer = quiet_trainer(**({"max_epochs": 4, "callbacks": [unfreeze, watch, *callbacks]} | arguments))
        trainer.fit(model, data or images_of(image_folder))
        return watch

    return fit


def parts_that_changed(model, before, after):
    """Stages with a parameter or a buffer that is not what it was."""
    prefixes = {name: f"network.backbone.stages.{name}." for name in model.backbone.stage_names} | {
        "head": "network.head."
    }
    return {
        stage
        for stage, prefix in prefixes.items()
        if any(not torch.equal(before[key], after[key]) for key in before if key.startswith(prefix))
    }


@pytest.mark.parametrize(
    ("backbone", "schedule"),
    [
        ("mobilenet_v3_small", SCHEDULE),
        ("resnet18", {0: ["head"], 1: ["layer4"], 3: ["layer3", "layer2"]}),
        ("squeezenet1_1", {0: ["head"], 1: ["fire9"], 3: ["fire8", "fire7"]}),
    ],
)
def test_only_what_has_unfrozen_changes_and_all_of_that_does(fit, backbone, schedule):
    model = fine_tuning(backbone=backbone)
    first = copy.deepcopy(model.state_dict())
    watch = fit(model, schedule)
    expected = {}
    for epoch in range(4):
        stages = {name for start, names in schedule.items() if start <= epoch for name in names}
        assert watch.trained[epoch] == stages
        # After validation, too, which sets modes of its own.
        assert watch.modes[epoch] == {name: {name in stages} for name in model.stages}
        expected[epoch] = stages
        before = first if epoch == 0 else watch.weights[epoch - 1]
        assert parts_that_changed(model, before, watch.weights[epoch]) == stages


def test_it_is_a_hand_written_loop(fit, image_folder):
    model = fine_tuning(backbone="resnet18", dropout=0.0, layer_decay=0.5, weight_decay=0.1)
    expected = copy.deepcopy(model).double()
    # Adam divides by the gradient's size, so that float32's rounding would count for much where that is small.
    fit(model, {0: ["head"], 1: ["layer4"], 2: ["layer3"]}, max_epochs=3, precision="64-true")

    stages = [*expected.backbone.stages.values(), expected.head]
    groups = [
        {
            "params": [p for p in stage.parameters() if (p.ndim > 1) == decayed],
            "lr": 1e-3 * 0.5**depth,
            "weight_decay": wd,
        }
        for depth, stage in enumerate(reversed(stages))
        for decayed, wd in ((True, 0.1), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups)
    data = images_of(image_folder)
    dataset = data.train_dataloader().dataset
    expected.eval()
    expected.requires_grad_(False)
    for epoch in range(3):
        for stage in stages[-1 - epoch :]:
            stage.train()
            stage.requires_grad_(True)
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


def test_a_strangers_module_is_unfrozen_as_ours(fit):
    model = Stranger()
    expected = copy.deepcopy(model)
    watch = fit(model, {0: ["top"], 1: ["neck"]}, noise(), max_epochs=2)
    assert watch.trained == {0: {"top"}, 1: {"top", "neck"}}
    expected.body.eval()
    expected.neck.eval()
    parameters = list(expected.top.parameters())
    for epoch in range(2):
        if epoch:
            expected.neck.train()
            parameters += expected.neck.parameters()
        for images, labels in noise():
            gradients = torch.autograd.grad(F.cross_entropy(expected(images), labels), parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 0.1 * gradient
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, msg=lambda text, key=key: f"{key}: {text}")


def test_a_new_fit_begins_with_the_first_epoch_again(fit):
    model, unfreeze = Stranger(), StagedUnfreeze({0: ["top"], 1: ["neck"]})
    for _ in range(2):
        assert fit(model, unfreeze, noise(), max_epochs=2).trained == {0: {"top"}, 1: {"top", "neck"}}


def test_frozen_stages_are_left_out_of_autograd(fit):
    kept = []

    class Look(nn.Module):
        def forward(self, features):
            if torch.is_grad_enabled():  # not in validation
                kept.append(features.requires_grad)
            return features

    model = Stranger()
    model.neck.add_module("look", Look())
    fit(model, {0: ["top"], 2: ["neck"]}, noise(4), max_epochs=3)
    assert kept == [False, False, True]


def test_accumulation_and_clipping_go_through_a_unfreeze(fit):
    model = Stranger()
    expected = copy.deepcopy(model)
    fit(model, {0: ["top"], 1: ["neck"]}, noise(), max_epochs=2, accumulate_grad_batches=2, gradient_clip_val=0.05)
    expected.body.eval()
    expected.neck.eval()
    for epoch in range(2):
        parameters = [*expected.top.parameters(), *(expected.neck.parameters() if epoch else ())]
        expected.neck.train(epoch > 0)
        batches = list(noise())
        for pair in (batches[:2], batches[2:]):
            losses = [F.cross_entropy(expected(images), labels) / 2 for images, labels in pair]
            gradients = torch.autograd.grad(torch.stack(losses).sum(), parameters)
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
            assert norm > 0.05
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 0.1 * gradient * 0.05 / (norm + 1e-6)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, msg=lambda text, key=key: f"{key}: {text}")


def test_averaged_weights_go_through_a_unfreeze(fit):
    model = Stranger()
    watch = fit(
        model,
        {0: ["top"], 1: ["neck"]},
        noise(),
        [EMAWeightAveraging(decay=0.9, update_starting_at_step=0)],
        max_epochs=3,
    )
    assert watch.trained[2] == {"top", "neck"}
    # After the run the module holds the averages: near, but not what the last step left. Those of what is frozen
    # are equal but for rounding, since the mean of twice the same is computed too.
    for key, last in watch.weights[2].items():
        if last.is_floating_point():
            near = torch.allclose(model.state_dict()[key], last, rtol=1e-6)
            assert near == (key.startswith("body") or key == "neck.0.bias"), key


def test_a_compiled_backbone_goes_through_a_unfreeze(fit):
    model, plain = (fine_tuning(backbone="squeezenet1_1", dropout=0.0) for _ in range(2))
    # The eager backend captures the graph as the default does, and leaves out the minutes of code generation.
    model.backbone.compile(backend="eager")
    schedule = {0: ["head"], 1: ["fire9"]}
    compiled, expected = (fit(m, schedule, max_epochs=2) for m in (model, plain))
    assert compiled.trained == expected.trained
    assert model.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(
            model.state_dict()[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_the_table_and_the_scalars_say_what_trains(quiet_trainer, image_folder, capsys, tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger

    model = fine_tuning(lr=1e-2, layer_decay=0.1)
    trainer = quiet_trainer(
        max_epochs=4,
        callbacks=[StagedUnfreeze(SCHEDULE)],
        logger=TensorBoardLogger(tmp_path, name=None),
        log_every_n_steps=1,
    )
    trainer.fit(model, images_of(image_folder))
    text = capsys.readouterr().out
    tables = text.split("epoch ")[1:]
    assert [table.splitlines()[0] for table in tables] == [
        "0: head",
        "1: head, last_conv",
        "3: head, last_conv, block5, block4",
    ]
    sizes = {name: sum(p.numel() for p in stage.parameters()) for name, stage in model.stages.items()}
    rows = {cells[0]: cells[1:] for cells in map(str.split, tables[1].splitlines()[3:]) if len(cells) > 2}
    assert rows["last_conv"] == [f"{sizes['last_conv']:,}", f"{sizes['last_conv']:,}", "1.0e-03"]
    assert rows["block5"] == [f"{sizes['block5']:,}", "frozen", "–"]
    assert rows["total"][1] == f"{sizes['head'] + sizes['last_conv']:,}"

    events = EventAccumulator(str(tmp_path / "version_0")).Reload()
    values = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert values["stages/trained"] == [1, 2, 2, 4]
    trainable = [sum(sizes[name] for name in names) for names in TRAINED]
    assert values["stages/trainable_parameters"] == trainable
    for depth, name in enumerate(["head", *MOBILENET[::-1]]):
        assert values[f"learning_rate/{name}"] == pytest.approx([1e-2 * 0.1**depth] * 4)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {0: ["head"], 5: ["last_con"]},
            r"no stage 'last_con' \(did you mean last_conv\?\).* head, last_conv, block5",
        ),
        (
            {0: ["head"], 5: ["block4"]},
            "out of order at block4: stages unfreeze from the head towards the input, head, last_",
        ),
        ({0: ["last_conv"], 5: ["head"]}, "out of order at last_conv"),
        ({0: ["head"], 5: ["block5", "block4"]}, "out of order at block5, block4.*none may be left out"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused_at_set_up(fit, schedule, message):
    with pytest.raises(ScheduleError, match=message):
        fit(fine_tuning(), schedule)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({}, "wanted one that begins with epoch 0"),
        ({1: ["head"]}, "wanted one that begins with epoch 0"),
        ({0: []}, "wanted one that begins with epoch 0"),
        ({0: ["head"], -1: ["block5"]}, "wanted one that begins with epoch 0"),
        ({0: ["head"], 3: ["block5"], 4: ["head"]}, "unfreezes head more than once"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused_at_once(schedule, message):
    with pytest.raises(ScheduleError, match=message):
        StagedUnfreeze(schedule)


def test_stages_that_unfreeze_at_once_may_be_in_any_order(fit):
    watch = fit(fine_tuning(), {0: ["last_conv", "head"]}, max_epochs=1)
    assert watch.trained == {0: {"head", "last_conv"}}


def test_a_module_without_stages_is_told_what_to_have(fit):
    class Bare(Stranger):
        stages = None

    with pytest.raises(ScheduleError, match="Bare has no stages: give it a property `stages`"):
        fit(Bare(optimizer=lambda module: torch.optim.SGD(module.parameters(), 0.1)), {0: ["top"]}, noise())


def test_an_optimizer_that_lacks_frozen_stages_is_refused(fit):
    def of_those_that_train(module):
        return torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1)

    with pytest.raises(ScheduleError, match=r"optimizer lacks parameters of body, neck: .* parameter_groups"):
        fit(Stranger(of_those_that_train), {0: ["top"], 1: ["neck"]}, noise())


def test_equal_layers_are_told_apart(fit):
    """Two fresh norms have the same values, so a comparison by value would find both in the optimizer."""

    def without_the_body(module):
        return torch.optim.SGD([*module.neck.parameters(), *module.top.parameters()], 0.1)

    with pytest.raises(ScheduleError, match="lacks parameters of body:"):
        fit(Stranger(without_the_body), {0: ["top"], 1: ["neck"]}, noise())


@pytest.mark.parametrize("strategy", [FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy])
def test_sharding_strategies_are_refused_with_a_reason(monkeypatch, quiet_trainer, strategy):
    trainer = quiet_trainer(max_epochs=1)
    # Neither they nor DeepSpeed's package can be set up without a GPU; what decides is the class.
    sharding = strategy.__new__(strategy)
    monkeypatch.setattr(Trainer, "strategy", property(lambda self: sharding))
    with pytest.raises(ScheduleError, match=rf"cannot work with {strategy.__name__}: .*strategy=\"ddp\""):
        check_trainer(trainer)


def test_ddp_is_not_refused(monkeypatch, quiet_trainer):
    trainer = quiet_trainer(max_epochs=1)
    monkeypatch.setattr(Trainer, "strategy", property(lambda self: DDPStrategy()))
    check_trainer(trainer)


def test_stochastic_weight_averaging_is_refused(fit):
    with pytest.raises(ScheduleError, match="use EMAWeightAveraging"):
        fit(fine_tuning(), callbacks=[StochasticWeightAveraging(1e-2)])


def test_it_leaves_the_trainers_callbacks_alone(quiet_trainer):
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["top"]})])
    before = list(trainer.callbacks)
    trainer.fit(Stranger(), noise())
    assert trainer.callbacks == before


def test_a_module_may_do_without_the_audit(quiet_trainer, image_folder):
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["head"]})])
    trainer.fit(fine_tuning(audit_freezing=False), images_of(image_folder))
    assert not [callback for callback in trainer.callbacks if isinstance(callback, FreezeAudit)]


def test_a_changed_schedule_on_resume_shows_both(quiet_trainer, tmp_path):
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["top"], 2: ["neck"]})])
    trainer.fit(Stranger(), noise())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    trainer = quiet_trainer(max_epochs=2, callbacks=[StagedUnfreeze({0: ["top"], 1: ["neck"]})])
    with pytest.raises(ScheduleError, match=r"made with .*2: \['neck'\].*; this run has .*1: \['neck'\]"):
        trainer.fit(Stranger(), noise(), ckpt_path=tmp_path / "one.ckpt", weights_only=True)


# Lightning's own word where a checkpoint knows callbacks that are not there; it is not an error.
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("other", [StagedUnfreeze({0: ["top"]}), AdaptiveUnfreeze(["top", "body"], "loss")])
def test_to_validate_or_predict_no_schedule_has_to_fit(quiet_trainer, tmp_path, other):
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["top"], 2: ["neck"]})])
    trainer.fit(Stranger(), noise())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    trainer = quiet_trainer(callbacks=[other])
    path = tmp_path / "one.ckpt"
    trainer.validate(Stranger(), noise(), ckpt_path=path, weights_only=True, verbose=False)


def test_validation_and_test_leave_everything_as_it_is(quiet_trainer):
    model = Stranger()
    trainer = quiet_trainer(callbacks=[StagedUnfreeze({0: ["top"]})])
    trainer.validate(model, noise(), verbose=False)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert isinstance(model, LightningModule)


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_strangers_run_resumes_exactly(quiet_trainer, tmp_path, stopped):
    def fit(halt=(), ckpt_path=None):
        trainer = quiet_trainer(max_epochs=3, callbacks=[StagedUnfreeze({0: ["top"], 1: ["neck"]}), *halt])
        trainer.fit(model := Stranger(), noise(), ckpt_path=ckpt_path)
        return trainer, model

    trainer, _ = fit([Halt(stopped)])
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    (whole, model), (resumed, other) = fit(), fit(ckpt_path=tmp_path / "stopped.ckpt")
    assert differing(model.state_dict(), other.state_dict()) == []
    assert differing(whole.optimizers[0].state_dict(), resumed.optimizers[0].state_dict()) == []
