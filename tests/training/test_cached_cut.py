"""Fine-tuning on a store of the frozen prefix's outputs is fine-tuning on the images, at less cost."""

import pytest
import torch

from lightning_transfer import (
    AdaptiveUnfreeze,
    FeatureDataModule,
    FineTuningClassifier,
    StagedUnfreeze,
    extract_features,
    load_classifier,
)
from lightning_transfer.errors import ModuleError
from runs import Watch, differing, every_epoch, fine_tuning, images_of, saved

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")
SCHEDULE = {0: ["head"], 1: ["last_conv"], 2: ["block5"]}


def stored(trainer, model, image_folder, root, schedule=SCHEDULE, dtype="float32", views=1, **arguments):
    images = images_of(image_folder, **arguments)
    prefix = model.frozen_prefix(StagedUnfreeze(schedule))
    return FeatureDataModule(
        extract_features(trainer, prefix, images, root=root, dtype=dtype, views=views),
        batch_size=5,
        seed=images.seed,
    )


def test_it_is_the_run_on_images(quiet_trainer, image_folder, tmp_path):
    """But for rounding, since batches of another size went through the prefix; BatchNorm, dropout and all."""
    runs = {}
    for cached in (False, True):
        watch = Watch()
        model = fine_tuning()
        trainer = quiet_trainer(
            max_epochs=4, callbacks=[StagedUnfreeze(SCHEDULE), watch], enable_checkpointing=False
        )
        data = images_of(image_folder, augmentation=None)
        if cached:
            data = stored(quiet_trainer(), model, image_folder, tmp_path, augmentation=None)
            assert data.last_stage == "block4"
        trainer.fit(model, data)
        runs[cached] = watch
    assert runs[False].trained == runs[True].trained
    for epoch, weights in runs[False].weights.items():
        for key, value in weights.items():
            assert runs[True].weights[epoch][key].allclose(value, rtol=1e-3, atol=1e-4), (epoch, key)
    first, last = runs[True].weights[0], runs[True].weights[3]
    changed = {
        key.split(".")[3]
        for key in first
        if key.startswith("network.backbone.st") and differing(first[key], last[key])
    }
    assert changed == {"last_conv", "block5"}


def test_the_prefix_runs_once_a_view_and_never_in_training(
    quiet_trainer, image_folder, tmp_path, passes, monkeypatch
):
    model = fine_tuning()
    data = stored(quiet_trainer(), model, image_folder, tmp_path, views=3)
    assert len(passes) == 3 * 24 + 12 + 12
    stem = []
    model.backbone.stages["stem"].register_forward_hook(lambda *_: stem.append(1))
    quiet_trainer(max_epochs=4, callbacks=[StagedUnfreeze(SCHEDULE)]).fit(model, data)
    assert len(passes) == 3 * 24 + 12 + 12
    assert stem == []


@pytest.mark.parametrize("views", [1, 2])
def test_its_checkpoint_predicts_from_images(quiet_trainer, image_folder, tmp_path, views):
    model = fine_tuning()
    data = stored(quiet_trainer(), model, image_folder, tmp_path, views=views)
    trainer = quiet_trainer(max_epochs=3, callbacks=[StagedUnfreeze(SCHEDULE)])
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "tuned.ckpt")
    from_store = torch.cat(trainer.predict(model, data))
    from_images = torch.cat(trainer.predict(model, images_of(image_folder)))
    torch.testing.assert_close(from_store, from_images, atol=1e-4, rtol=1e-3)
    images = images_of(image_folder).dataset("test")
    said = load_classifier(tmp_path / "tuned.ckpt").classify([images.root / path for path in images.samples.paths])
    for row, prediction in zip(from_images, said, strict=True):
        assert prediction.probabilities["cats"] == pytest.approx(float(row[0]), abs=1e-4)


def test_it_resumes_exactly(quiet_trainer, image_folder, tmp_path):
    def fit(folder, epochs, ckpt_path=None):
        model = fine_tuning()
        data = stored(quiet_trainer(), model, image_folder, tmp_path / "features", views=2)
        trainer = quiet_trainer(
            max_epochs=epochs,
            callbacks=[StagedUnfreeze(SCHEDULE), every_epoch(tmp_path / folder)],
            enable_checkpointing=True,
        )
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)

    fit("whole", 4)
    for stopped in range(3):
        fit(f"from_{stopped}", 4, tmp_path / "whole" / f"{stopped}.ckpt")
        assert (
            differing(saved(tmp_path / "whole" / "3.ckpt"), saved(tmp_path / f"from_{stopped}" / "3.ckpt")) == []
        )


def test_the_prefix_is_what_never_unfreezes():
    model = fine_tuning()
    names = model.backbone.stage_names
    for schedule, last in (
        ({0: ["head"]}, "last_conv"),
        ({0: ["head"], 1: ["last_conv"]}, "block5"),
        ({0: ["head", "last_conv", "block5"], 3: ["block4"]}, "block3"),
    ):
        prefix = model.frozen_prefix(StagedUnfreeze(schedule))
        assert prefix.stage_names == names[: names.index(last) + 1]
    adaptive = AdaptiveUnfreeze(["head", "last_conv"], patience=1)
    assert model.frozen_prefix(adaptive).stage_names[-1] == "block5"


@pytest.mark.parametrize("stage", ["block4", "block5"])
def test_a_stage_that_would_unfreeze_below_the_cut_is_refused_at_set_up(
    quiet_trainer, image_folder, tmp_path, stage
):
    model = fine_tuning()
    data = stored(quiet_trainer(), model, image_folder, tmp_path, {0: ["head"], 1: ["last_conv"]})
    schedule = {0: ["head"], 1: ["last_conv"], 9: ["block5"]} | ({10: ["block4"]} if stage == "block4" else {})
    trainer = quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze(schedule)])
    with pytest.raises(
        ModuleError, match=rf"{stage}.* would unfreeze, but the data are stored features of block5"
    ):
        trainer.fit(model, data)


def test_outputs_of_another_backbone_are_refused(quiet_trainer, image_folder, tmp_path):
    model = fine_tuning()
    data = stored(quiet_trainer(), model, image_folder, tmp_path)
    torch.manual_seed(1)
    other = FineTuningClassifier("mobilenet_v3_small", weights=None, image_size=32, pool="avg", hidden=8)
    with pytest.raises(ModuleError, match="stored features of block4 come from a backbone with other weights"):
        quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze(SCHEDULE)]).fit(other, data)
