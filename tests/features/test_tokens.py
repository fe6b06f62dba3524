"""Stores and stage outputs of tokens, against the tiny transformer's layers by hand."""

import numpy as np
import pytest
import torch

from lightning_transfer import (
    Backbone,
    FeatureClassifier,
    FeatureDataModule,
    FeatureStore,
    FineTuningClassifier,
    ImageFolderDataModule,
    StagedUnfreeze,
    extract_features,
    load_classifier,
)
from lightning_transfer.features.stage_outputs import stage_outputs
from runs import copied, images_of
from tiny_vit import STAGES, forward_by_hand


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return Backbone("tiny/vit", None)


def pixels(images, split):
    return torch.stack([image for image, _ in images.dataset(split)])


def test_a_store_has_a_row_of_tokens_an_image(backbone, image_folder, tmp_path, quiet_trainer):
    images = images_of(image_folder)
    store = extract_features(quiet_trainer(), backbone, images, root=tmp_path)
    assert store.path.parent == tmp_path
    assert store.path.name.startswith("tiny-vit-norm-32-")
    assert store.feature_shape == (17, 16)
    for split in store.splits:
        with torch.no_grad():
            expected = forward_by_hand(backbone, pixels(images, split))["norm"]
        assert store.features(split).shape == (len(expected), 17, 16)
        np.testing.assert_allclose(store.features(split), expected, rtol=2e-3, atol=2e-3)
    FeatureStore(store.path).verify()
    assert "(17, 16) float16" in repr(store)


def test_views_of_a_prefix_are_rows_of_tokens_too(backbone, image_folder, tmp_path, quiet_trainer):
    prefix, _ = backbone.split("block2")
    store = extract_features(quiet_trainer(), prefix, images_of(image_folder), root=tmp_path, views=3)
    assert store.features("train", 2).shape == (24, 17, 16)
    assert not np.array_equal(store.features("train", 0), store.features("train", 2))


def test_every_stage_is_averaged_over_its_patches(backbone, image_folder, quiet_trainer):
    images = images_of(image_folder)
    outputs = stage_outputs(quiet_trainer(), backbone, images, ("validation",))["validation"]
    with torch.no_grad():
        stages = forward_by_hand(backbone, pixels(images, "validation"))
    assert list(stages) == list(STAGES)
    for found, tokens in zip(outputs, stages.values(), strict=True):
        torch.testing.assert_close(found, tokens[:, 1:].mean(dim=1), rtol=1e-4, atol=1e-5)


def test_in_bf16_their_averages_are_float32(backbone, image_folder, quiet_trainer):
    images = images_of(image_folder)
    outputs = stage_outputs(quiet_trainer(precision="bf16-mixed"), backbone, images, ("validation",))["validation"]
    assert {found.dtype for found in outputs} == {torch.float32}


@pytest.mark.parametrize("pool", ["native", "avg", "class_token+avg", "flatten"])
def test_a_head_trained_on_stored_tokens_says_the_same_of_images(pool, image_folder, tmp_path, quiet_trainer):
    torch.manual_seed(0)
    model = FeatureClassifier("tiny/vit", weights=None, pool=pool, hidden=8, lr=1e-2)
    trainer = quiet_trainer(max_epochs=2)
    images = images_of(image_folder)
    store = extract_features(trainer, model.backbone, images, root=tmp_path, dtype="float32")
    trainer.fit(model, FeatureDataModule(store, batch_size=5))
    (from_store,) = trainer.validate(model, FeatureDataModule(store), verbose=False)
    (from_images,) = trainer.validate(model, images, verbose=False)
    assert from_images == pytest.approx(from_store, abs=1e-4)
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=False)
    classifier = load_classifier(tmp_path / "model.ckpt")
    with torch.no_grad():
        expected = model.eval()(pixels(images, "test")).softmax(dim=1)
    torch.testing.assert_close(classifier.probabilities(pixels(images, "test")), expected, rtol=1e-4, atol=1e-5)


def test_on_a_cached_cut_the_blocks_after_it_train_and_no_others(image_folder, tmp_path, quiet_trainer):
    """FreezeAudit comes along."""
    torch.manual_seed(0)
    model = FineTuningClassifier("tiny/vit", weights=None, pool="class_token+avg", hidden=8, lr=1e-2)
    schedule = StagedUnfreeze({0: ["head"], 1: ["norm", "block2"]})
    trainer = quiet_trainer(max_epochs=3, callbacks=[schedule])
    images = images_of(image_folder)
    store = extract_features(trainer, model.frozen_prefix(schedule), images, root=tmp_path, views=2)
    assert store.manifest.recipe["last_stage"] == "block1"
    before = copied(model.backbone.state_dict())
    trainer.fit(model, FeatureDataModule(store, batch_size=5))
    after = model.backbone.state_dict()
    changed = {key.split(".")[1] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"norm", "block2"}


def test_a_store_is_of_the_backbones_native_size_where_the_images_have_none(
    backbone, image_folder, tmp_path, quiet_trainer
):
    images = ImageFolderDataModule(str(image_folder), image_size=None, num_workers=0)
    store = extract_features(quiet_trainer(), backbone, images, root=tmp_path)
    assert (images.image_size, store.manifest.recipe["image_size"], store.feature_shape) == (32, 32, (17, 16))
    # Another backbone, another size.
    other = Backbone("squeezenet1_1", None).split("fire2")[0]
    assert extract_features(quiet_trainer(), other, images, root=tmp_path).manifest.recipe["image_size"] == 224
    assert FeatureDataModule(store, images=images).images is images
