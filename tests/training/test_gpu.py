"""On a GPU: each precision unfreezes and trains, and a resumed run ends as the uninterrupted one does."""

import pytest
import torch

from lightning_transfer import (
    AdaptiveUnfreeze,
    FeatureClassifier,
    FeatureDataModule,
    StagedUnfreeze,
    extract_features,
)
from runs import EXISTING, Watch, differing, every_epoch, fine_tuning, images_of, saved

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Precision .* is not supported by the model summary"),
]
PRECISIONS = ["32-true", "bf16-mixed", "16-mixed"]
# No pooling over the feature map: a GPU sums its gradient in no fixed order.
NETWORK = {"backbone": "resnet18", "pool": "flatten"}


def by_epoch():
    return StagedUnfreeze({0: ["head"], 1: ["layer4"], 3: ["layer3"]})


def adaptive():
    return AdaptiveUnfreeze(["head", "layer4", "layer3"], patience=1, max_epochs_per_step=2, restore_best=True)


@EXISTING
@pytest.mark.parametrize("unfreeze", [by_epoch, adaptive])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_resumed_run_is_the_whole_one(quiet_trainer, image_folder, tmp_path, precision, unfreeze):
    def fit(folder, ckpt_path=None):
        watch = Watch()
        trainer = quiet_trainer(
            accelerator="gpu",
            devices=1,
            precision=precision,
            deterministic=True,
            max_epochs=5,
            callbacks=[unfreeze(), watch, every_epoch(tmp_path / folder)],
            enable_checkpointing=True,
        )
        data = images_of(image_folder, num_workers=2)
        trainer.fit(fine_tuning(**NETWORK), data, ckpt_path=ckpt_path, weights_only=True)
        return watch

    watch = fit("whole")
    assert watch.trained[0] == {"head"}
    assert watch.trained[4] == {"head", "layer4", "layer3"}
    whole = saved(tmp_path / "whole" / "4.ckpt")
    for stopped in (1, 2):
        fit(f"from {stopped}", tmp_path / "whole" / f"{stopped}.ckpt")
        assert differing(whole, saved(tmp_path / f"from {stopped}" / "4.ckpt")) == [], stopped


@pytest.mark.parametrize("precision", PRECISIONS)
def test_features_and_images_agree(quiet_trainer, image_folder, tmp_path, precision):
    model = FeatureClassifier("resnet18", weights=None, image_size=32, hidden=8)
    trainer = quiet_trainer(accelerator="gpu", devices=1, precision=precision, max_epochs=2)
    images = images_of(image_folder)
    store = extract_features(trainer, model.backbone, images, root=tmp_path / "features")
    trainer.fit(model, FeatureDataModule(store))
    (from_store,) = trainer.test(model, FeatureDataModule(store), verbose=False)
    (from_images,) = trainer.test(model, images, verbose=False)
    assert from_store["test/loss"] == pytest.approx(from_images["test/loss"], rel=1e-2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_clipping_and_accumulation_work_across_an_unfreeze(quiet_trainer, image_folder, precision):
    trainer = quiet_trainer(
        accelerator="gpu",
        devices=1,
        precision=precision,
        max_epochs=3,
        callbacks=[StagedUnfreeze({0: ["head"], 1: ["layer4"]}), watch := Watch()],
        gradient_clip_val=0.5,
        accumulate_grad_batches=2,
    )
    model = fine_tuning(**NETWORK, scheduler="one_cycle", warmup_steps=2)
    trainer.fit(model, images_of(image_folder))
    assert watch.trained[2] == {"head", "layer4"}
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
