"""Each argument that differs at a resume is refused, with both values, or applied, and said: a walk over all."""

import inspect
import itertools

import pytest
import torch

from lightning_transfer import (
    Augmentation,
    CatsAndDogsDataModule,
    FeatureDataModule,
    FineTuningClassifier,
    ImageDataModule,
    ImageFolderDataModule,
    ImageTableDataModule,
    SketchCreaturesDataModule,
    SketchPetsDataModule,
    StagedUnfreeze,
    extract_features,
)
from lightning_transfer.errors import ModuleError
from lightning_transfer.training.checkpoints import ORIGINS
from lightning_transfer.training.resuming import FIXED
from runs import EXISTING, Watch, differing, fine_tuning, images_of

# What the checkpoint's run has, and what is asked of the one that resumes.
BEFORE = {"num_classes": 2, "image_size": 32, "task": "single_label", "lr": 1e-3}
APPLIED = {
    "dropout": 0.1,
    "lr": 1e-6,
    "layer_decay": 0.9,
    "weight_decay": 0.3,
    "warmup_steps": 3,
    "scheduler": "cosine",
    "scheduler_options": {"eta_min": 1e-7},
    "scheduler_interval": "epoch",
    "scheduler_monitor": "validation/accuracy",
    "label_smoothing": 0.2,
    "class_weights": [1.0, 2.0],
    "seed": 7,
}
REFUSED = {
    "backbone": "resnet18",
    "last_stage": "block5",
    "num_classes": 3,
    "image_size": 64,
    "pool": "max",
    "hidden": 4,
    "task": "multi_label",
    "optimizer": "SGD",
    "optimizer_options": {"eps": 1e-6},
}
# What is no matter: files, whose content the checkpoint holds, and who checks.
NO_MATTER = {*ORIGINS, "audit_freezing"}
DATA = {
    "batch_size": 4,
    "seed": 3,
    "augmentation": Augmentation(rotation=10),
    "resize": "crop",
    "max_images": 20,
    "duplicates": "keep",
    "max_pixels": 10**6,
    "on_bad_image": "skip",
    "split_seed": 4,
}


@pytest.fixture(scope="module")
def checkpoint(image_folder, tmp_path_factory, request):
    """After two epochs of fine-tuning, with a scheduler or none."""
    paths = {}

    def made(trainer, scheduler=None, **arguments):
        if scheduler not in paths:
            trainer.fit(fine_tuning(**BEFORE, scheduler=scheduler, **arguments), images_of(image_folder))
            paths[scheduler] = tmp_path_factory.mktemp("runs") / "last.ckpt"
            trainer.save_checkpoint(paths[scheduler])
        return paths[scheduler]

    return made


@pytest.fixture
def resumed(checkpoint, quiet_trainer, image_folder):
    """Resumes with other arguments for some more epochs; gives the Trainer, the module and what was watched."""

    def run(model=None, data=None, scheduler=None, epochs=3, options=None, stages=("head", "last_conv")):
        callbacks = [StagedUnfreeze({0: ["head", "last_conv"]})]
        path = checkpoint(quiet_trainer(max_epochs=2, callbacks=[*callbacks]), scheduler, **(options or {}))
        watch = Rates()
        trainer = quiet_trainer(max_epochs=epochs, callbacks=[StagedUnfreeze({0: list(stages)}), watch])
        module = fine_tuning(**(BEFORE | {"scheduler": scheduler} | (options or {}) | (model or {})))
        images = ImageFolderDataModule(
            image_folder, **({"image_size": 32, "batch_size": 5, "num_workers": 0} | (data or {}))
        )
        trainer.fit(module, images, ckpt_path=path, weights_only=True)
        return trainer, module, watch, path

    return run


class Rates(Watch):
    """Notes the head's rate and weight decay in each step, too."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        group = next(group for group in trainer.optimizers[0].param_groups if group["name"] == "head")
        self.rates.append(group["lr"])
        self.decay, self.samples = group["weight_decay"], len(batch[0])


def test_each_argument_of_the_module_is_in_one_class():
    named = set(inspect.signature(FineTuningClassifier).parameters)
    assert named == APPLIED.keys() | REFUSED.keys() | NO_MATTER
    assert REFUSED.keys() == set(FIXED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_change_is_refused_with_both_values_and_the_way_on(resumed, name):
    with pytest.raises(ModuleError) as raised:
        resumed({name: REFUSED[name]}, {"image_size": 64} if name == "image_size" else None, stages=["head"])
    said = str(raised.value)
    if name in ("num_classes", "task"):  # the data contradict it before
        assert f"{name}=" in said or "multi_label" in said
        return
    assert f"this run has {name}={REFUSED[name]!r}" in said
    way_on = "without a checkpoint" if name in ("backbone", "last_stage", "pool", "hidden") else "with init_from="
    assert f"begin a new run {way_on}" in said


@pytest.mark.parametrize("name", APPLIED)
def test_what_can_change_is_applied_and_said(resumed, name, caplog):
    scheduler = "StepLR" if name == "scheduler_options" else None
    options = {"scheduler_options": {"step_size": 1}} if scheduler else None
    asked = {"step_size": 2} if scheduler else APPLIED[name]
    trainer, module, watch, path = resumed({name: asked}, scheduler=scheduler, options=options)
    assert f"{path} was made with other arguments; this run goes on with its own: {name}" in caplog.text
    assert module.hparams[name] == asked
    done = {
        "dropout": lambda: [part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)][-1] == 0.1,
        "lr": lambda: set(watch.rates) == {1e-6},
        "layer_decay": lambda: group(trainer, "last_conv")["lr"] == pytest.approx(0.9e-3),
        "weight_decay": lambda: watch.decay == 0.3,
        # Ten steps behind it, the head is warm.
        "warmup_steps": lambda: set(watch.rates) == {1e-3},
        "scheduler": lambda: watch.rates[0] == pytest.approx(1e-3 * (1 + torch.pi * 0 + cos(10 / 15)) / 2),
        "scheduler_options": lambda: watch.rates[0] == pytest.approx(1e-4),
        "label_smoothing": lambda: module.task.label_smoothing == 0.2,
        "class_weights": lambda: module.task.weight.tolist() == [1.0, 2.0],
    }
    if name in done:
        assert done[name]()


def cos(share):
    return float(torch.cos(torch.tensor(torch.pi * share, dtype=torch.float64)))


def group(trainer, name):
    return next(each for each in trainer.optimizers[0].param_groups if each["name"] == name)


def test_nothing_is_said_of_a_run_that_goes_on_as_it_was(resumed, caplog):
    resumed()
    assert "other arguments" not in caplog.text
    assert "From step" not in caplog.text


@pytest.mark.parametrize("name", DATA)
def test_arguments_of_the_data_are_applied_and_said(resumed, name, caplog):
    if name == "on_bad_image":
        caplog.set_level("INFO")
    resumed(None, {name: DATA[name]})
    said = "augmentation.rotation 40.0 → 10" if name == "augmentation" else f"{name} "
    assert f"goes on with its own: {said}" in caplog.text


def test_steps_of_another_size_keep_the_schedule_to_its_formula(resumed):
    """Two epochs of five steps are behind it; the third has eight."""
    _, _, watch, _ = resumed(None, {"batch_size": 3}, scheduler="cosine")
    whole = [1e-3 * (1 + cos(step / 24)) / 2 for step in range(16, 24)]
    assert watch.rates == pytest.approx(whole)


@pytest.mark.parametrize("scheduler", ["cosine", "one_cycle"])
def test_more_epochs_than_before_never_climb(resumed, scheduler):
    _, _, watch, _ = resumed(scheduler=scheduler, epochs=4)
    assert len(watch.rates) == 10
    assert all(later < rate for rate, later in itertools.pairwise(watch.rates))
    if scheduler == "cosine":
        assert watch.rates == pytest.approx([1e-3 * (1 + cos(step / 20)) / 2 for step in range(10, 20)])


MODULES = {
    ImageDataModule: {},
    ImageFolderDataModule: {"root": "a"},
    ImageTableDataModule: {"table": "a.csv"},
    CatsAndDogsDataModule: {},
    SketchPetsDataModule: {},
    SketchCreaturesDataModule: {},
}


@pytest.mark.parametrize("cls", MODULES)
def test_a_data_module_tells_all_its_arguments(cls):
    told = cls(**MODULES[cls]).arguments
    named = set(inspect.signature(cls).parameters) | set(inspect.signature(ImageDataModule).parameters)
    assert told.keys() == named - {"kwargs", "index", "num_workers", "left_out_report", "use_cache"}


def test_a_store_tells_its_recipe(quiet_trainer, image_folder, tmp_path):
    images = images_of(image_folder)
    model = fine_tuning()
    store = extract_features(quiet_trainer(), model.backbone, images, root=tmp_path)
    told = FeatureDataModule(store).arguments
    assert told["batch_size"] == 20
    assert told["store"]["last_stage"] == "last_conv"


@EXISTING
def test_a_checkpoint_on_images_goes_on_on_a_store_and_says_so(
    resumed, quiet_trainer, checkpoint, image_folder, tmp_path, caplog
):
    path = checkpoint(quiet_trainer(max_epochs=2, callbacks=[StagedUnfreeze({0: ["head", "last_conv"]})]))
    model = fine_tuning(**BEFORE)
    images = images_of(image_folder)
    prefix, _ = model.backbone.split("last_conv")
    store = extract_features(quiet_trainer(), prefix, images, root=tmp_path)
    trainer = quiet_trainer(max_epochs=3, callbacks=[StagedUnfreeze({0: ["head", "last_conv"]})])
    trainer.fit(model, FeatureDataModule(store, batch_size=5), ckpt_path=path, weights_only=True)
    assert "data ImageFolderDataModule → FeatureDataModule" in caplog.text


def test_a_next_checkpoint_records_what_ran(resumed, tmp_path):
    trainer, _, _, _ = resumed({"lr": 1e-6}, {"batch_size": 4})
    trainer.save_checkpoint(tmp_path / "next.ckpt")
    recorded = torch.load(tmp_path / "next.ckpt", weights_only=True)
    assert recorded["hyper_parameters"]["lr"] == 1e-6
    assert {group["lr"] for group in recorded["optimizer_states"][0]["param_groups"]} >= {1e-6}
    assert recorded["data_arguments"]["batch_size"] == 4


def test_clipping_may_begin_at_a_resume(checkpoint, quiet_trainer, image_folder):
    """The optimizer of a run without clipping is fused, which Lightning's mixed precisions do not clip."""
    callbacks = [StagedUnfreeze({0: ["head", "last_conv"]})]
    path = checkpoint(quiet_trainer(max_epochs=2, callbacks=callbacks), None)
    trainer = quiet_trainer(
        max_epochs=3,
        callbacks=[StagedUnfreeze({0: ["head", "last_conv"]})],
        gradient_clip_val=1.0,
        precision="bf16-mixed",
    )
    model = fine_tuning(**BEFORE)
    before = torch.load(path, weights_only=True)["state_dict"]
    trainer.fit(model, images_of(image_folder), ckpt_path=path, weights_only=True)
    assert differing(before, model.state_dict())
