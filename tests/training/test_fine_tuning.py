"""What the third regime adds: groups for every stage, a start from the second regime's run, schedules of rates."""

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from lightning_transfer import FineTuningClassifier, FrozenBackboneClassifier, StagedUnfreeze
from lightning_transfer.errors import ModuleError
from runs import MOBILENET, Watch, fine_tuning, images_of


def test_there_is_a_named_group_a_stage_from_the_start(quiet_trainer, image_folder):
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["head"]})])
    model = fine_tuning(lr=1e-2, layer_decay=0.5, weight_decay=0.1)
    trainer.fit(model, images_of(image_folder))
    groups = {group["name"]: group for group in trainer.optimizers[0].param_groups}
    assert list(groups) == [f"{name}{end}" for name in (*MOBILENET, "head") for end in ("", ".no_decay")]
    for depth, name in enumerate(["head", *MOBILENET[::-1]]):
        for end, decay in (("", 0.1), (".no_decay", 0.0)):
            assert groups[name + end]["lr"] == pytest.approx(1e-2 * 0.5**depth)
            assert groups[name + end]["weight_decay"] == decay
    vectors = {
        id(p) for m in model.modules() for p in m.parameters(recurse=False) if isinstance(m, nn.BatchNorm2d)
    }
    assert vectors <= {
        id(p) for name, group in groups.items() if name.endswith("no_decay") for p in group["params"]
    }


def test_it_starts_from_a_frozen_backbone_run(quiet_trainer, image_folder, tmp_path, monkeypatch):
    first = FrozenBackboneClassifier("mobilenet_v3_small", weights=None, image_size=32, pool="avg", hidden=8)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(first, images_of(image_folder))
    trainer.save_checkpoint(tmp_path / "frozen.ckpt")

    def refuse(*_):
        raise AssertionError("weights were looked for")

    monkeypatch.setattr("lightning_transfer.models.backbone.find_weights", refuse)
    model = fine_tuning(weights="DEFAULT", init_from=str(tmp_path / "frozen.ckpt"))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model.eval()(images), first.eval()(images))
    trainer = quiet_trainer(
        max_epochs=2, callbacks=[StagedUnfreeze({0: ["head"], 1: ["last_conv"]}), watch := Watch()]
    )
    trainer.fit(model, images_of(image_folder))
    assert watch.trained[1] == {"head", "last_conv"}
    trainer.save_checkpoint(tmp_path / "tuned.ckpt")
    (tmp_path / "frozen.ckpt").unlink()
    loaded = FineTuningClassifier.load_from_checkpoint(tmp_path / "tuned.ckpt", weights_only=True)
    assert torch.equal(model.eval()(images), loaded.eval()(images))


def test_without_a_schedule_it_warns_that_only_the_head_trains(quiet_trainer, image_folder):
    with pytest.warns(
        UserWarning, match=r"trains its head alone.*StagedUnfreeze\({0: \[\"head\"\], 5: \[\"last_conv\"\]}"
    ):
        quiet_trainer(max_epochs=1).fit(fine_tuning(), images_of(image_folder))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [1.0] * 4),
        ({"scheduler": "cosine", "scheduler_interval": "epoch"}, [1, 0.853553, 0.5, 0.146447]),
        ({"scheduler": "StepLR", "scheduler_options": {"step_size": 2, "gamma": 0.1}}, [1, 1, 0.1, 0.1]),
    ],
)
def test_each_rate_follows_the_schedule_through_the_unfreeze(
    quiet_trainer, image_folder, tmp_path, arguments, expected
):
    """Read where a person would: in TensorBoard, by Lightning's own monitor of each epoch's first step."""
    logger = TensorBoardLogger(tmp_path, name=None)
    trainer = quiet_trainer(
        max_epochs=4,
        callbacks=[StagedUnfreeze({0: ["head"], 2: ["last_conv"]}), LearningRateMonitor("epoch")],
        logger=logger,
        log_every_n_steps=1,
    )
    trainer.fit(fine_tuning(lr=1e-2, layer_decay=0.1, **arguments), images_of(image_folder))
    events = EventAccumulator(logger.log_dir).Reload()
    rates = {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"] if "AdamW" in tag}
    assert len(rates) == 2 * (len(MOBILENET) + 1) or not arguments  # a monitor needs a scheduler
    for tag, values in rates.items():
        depth = next(d for d, name in enumerate(["head", *MOBILENET[::-1]]) if f"/{name}" in tag)
        assert values == pytest.approx([1e-2 * 0.1**depth * factor for factor in expected], rel=1e-4), tag


def test_a_plateau_lowers_the_rate(quiet_trainer, image_folder):
    trainer = quiet_trainer(max_epochs=4, callbacks=[StagedUnfreeze({0: ["head"]})])
    options = {
        "patience": 0,
        "factor": 0.1,
        "threshold": 1e9,
        "threshold_mode": "abs",
    }  # nothing is an improvement
    trainer.fit(fine_tuning(lr=1e-2, scheduler="plateau", scheduler_options=options), images_of(image_folder))
    head = next(group for group in trainer.optimizers[0].param_groups if group["name"] == "head")
    # The first of four scores is the best so far, each of the others no better.
    assert head["lr"] == pytest.approx(1e-5)


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_a_rate_finder_sets_the_heads_rate_and_the_others_follow(quiet_trainer, image_folder, tmp_path):
    finder = LearningRateFinder(min_lr=1e-4, max_lr=1e-1, num_training_steps=20)
    trainer = quiet_trainer(
        max_epochs=2,
        callbacks=[finder, StagedUnfreeze({0: ["head"], 1: ["last_conv"]}), watch := Watch()],
        default_root_dir=tmp_path,
    )
    model = fine_tuning(lr=0.0123, layer_decay=0.1)
    trainer.fit(model, images_of(image_folder, batch_size=2))
    assert model.lr != 0.0123
    assert watch.trained == {0: {"head"}, 1: {"head", "last_conv"}}
    rates = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
    assert rates["head"] == pytest.approx(model.lr)
    assert rates["last_conv"] == pytest.approx(model.lr * 0.1)


def test_unknown_schedulers_are_refused_before_the_first_step(quiet_trainer, image_folder):
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze({0: ["head"]})])
    with pytest.raises(ModuleError, match="scheduler='cosin': wanted cosine, one_cycle, plateau or one of"):
        trainer.fit(fine_tuning(scheduler="cosin"), images_of(image_folder))
