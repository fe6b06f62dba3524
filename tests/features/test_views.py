"""Several views of each training image: what they hold, and which epoch trains on which."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from lightning_transfer import (
    Augmentation,
    Backbone,
    FeatureClassifier,
    FeatureDataModule,
    FeatureStore,
    extract_features,
)
from lightning_transfer.errors import StoreError
from runs import differing, every_epoch, images_of, saved

VIEWS = 3


def backbone_of(weights_file):
    return Backbone("squeezenet1_1", str(weights_file))


@pytest.fixture(scope="module")
def store(image_folder, weights_file, tmp_path_factory):
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    images = images_of(image_folder, image_size=64, seed=4)
    root = tmp_path_factory.mktemp("features")
    return extract_features(trainer, backbone_of(weights_file), images, root=root, dtype="float32", views=VIEWS)


def test_view_v_is_the_backbone_on_what_a_live_run_shows_in_epoch_v(store, image_folder, weights_file):
    backbone = backbone_of(weights_file).eval()
    images = images_of(image_folder, image_size=64, seed=4)
    plain = images.dataset("train")
    for view in range(VIEWS):
        seen = [images.augmentation(plain.image(i), [4, view, i]) if view else plain.image(i) for i in range(24)]
        batch = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in seen])
        with torch.no_grad():
            expected = backbone(batch)
        np.testing.assert_allclose(store.features("train", view), expected, atol=1e-4, rtol=1e-4)
    assert not np.allclose(store.features("train", 1), store.features("train", 2))


def test_it_is_one_array_and_the_other_splits_are_plain(store):
    assert np.load(store.path / "train.npy", mmap_mode="r").shape == (VIEWS, 24, *store.feature_shape)
    assert store.features("validation").shape == (12, *store.feature_shape)
    assert (store.views("train"), store.views("test")) == (VIEWS, 1)
    assert "train 24 × 3 views, validation 12, test 12" in repr(store)
    assert FeatureStore(store.path).labels("train").tolist() == [0] * 12 + [1] * 12
    for view in (-1, VIEWS):
        with pytest.raises(StoreError, match=r"has 3 views of train: wanted one from 0, got"):
            store.features("train", view)


def test_epoch_e_trains_on_view_e_modulo_v(store):
    data = FeatureDataModule(store, batch_size=7, seed=1)
    orders = []
    for epoch in range(5):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        order = np.random.default_rng([1, epoch]).permutation(24)
        features = torch.cat([features for features, _ in loader])
        labels = torch.cat([labels for _, labels in loader])
        np.testing.assert_array_equal(features, store.features("train", epoch % VIEWS)[order])
        np.testing.assert_array_equal(labels, store.labels("train")[order])
        orders.append(order.tolist())
        (validation, _), *_ = data.val_dataloader()
        mixed = np.random.default_rng(0).permutation(12)
        np.testing.assert_array_equal(validation, store.features("validation")[mixed[:7]])
    assert len(set(map(tuple, orders))) == 5


def test_other_views_are_another_store(store, image_folder, weights_file, quiet_trainer, passes):
    def again(views=VIEWS, **arguments):
        images = images_of(image_folder, **({"image_size": 64, "seed": 4} | arguments))
        return extract_features(
            quiet_trainer(),
            backbone_of(weights_file),
            images,
            root=store.path.parent,
            dtype="float32",
            views=views,
        )

    assert again().path == store.path
    assert passes == [], "the backbone ran again"
    others = [again(2), again(1), again(seed=5), again(augmentation=Augmentation(rotation=10))]
    assert len({store.path, *(other.path for other in others)}) == 5
    assert again(1, augmentation=None).path == again(1).path, "one view is plain, whatever the augmentation"
    with pytest.raises(StoreError, match="views=2 of each training image would be all the same"):
        again(2, augmentation=None)
    mixing = Augmentation(mixup=0.2, trivial=True)
    with pytest.raises(StoreError, match=r"views=2 with augmentation.mixup=0.2 and cutmix=0: a store keeps one"):
        again(2, augmentation=mixing)
    assert again(1, augmentation=mixing).path == again(1).path
    with pytest.raises(StoreError, match="views=0: wanted a whole number, 1 or more"):
        again(0)


def test_a_recipe_names_what_came_later_only_where_it_is_on(store):
    """Stores of version 0.2 keep their names."""
    first = {"flip": True, "rotation": 40.0, "shift": 0.2, "shear": 11.5, "zoom": 0.2, "colour": 0.0}
    assert store.manifest.recipe["views"] == {"number": VIEWS, "seed": 4, **first}
    assert Augmentation(erase=0.5, trivial=True).recipe() == {**first, "erase": 0.5, "trivial": True}
    assert repr(Augmentation(rotation=10).recipe()["rotation"]) == "10"


def test_erased_and_trivially_augmented_views(image_folder, weights_file, quiet_trainer, tmp_path):
    images = images_of(image_folder, image_size=32, augmentation=Augmentation(erase=1.0, trivial=True))
    backbone = backbone_of(weights_file).eval()
    made = extract_features(quiet_trainer(), backbone, images, root=tmp_path, dtype="float32", views=2)
    plain = images.dataset("train")
    seen = [np.asarray(images.augmentation(plain.image(i), [0, 1, i])) for i in range(24)]
    with torch.no_grad():
        expected = backbone(torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2))
    np.testing.assert_allclose(made.features("train", 1), expected, atol=1e-4, rtol=1e-4)


class Seen(Callback):
    """Notes the sum of each training batch, by epoch."""

    def __init__(self):
        self.sums = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.sums.setdefault(trainer.current_epoch, []).append(float(batch[0].double().sum()))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_sees_the_same_views_and_ends_the_same(store, weights_file, quiet_trainer, tmp_path):
    def fit(folder, epochs, ckpt_path=None):
        torch.manual_seed(0)
        model = FeatureClassifier("squeezenet1_1", weights=str(weights_file), image_size=64, pool="avg", hidden=8)
        seen = Seen()
        trainer = quiet_trainer(
            max_epochs=epochs, callbacks=[seen, every_epoch(tmp_path / folder)], enable_checkpointing=True
        )
        trainer.fit(model, FeatureDataModule(store, batch_size=5, seed=1), ckpt_path=ckpt_path, weights_only=True)
        return seen.sums

    whole = fit("whole", 5)
    assert fit("stopped", 2) == {epoch: whole[epoch] for epoch in (0, 1)}
    resumed = fit("resumed", 5, tmp_path / "stopped" / "1.ckpt")
    assert resumed == {epoch: whole[epoch] for epoch in (2, 3, 4)}
    assert differing(saved(tmp_path / "whole" / "4.ckpt"), saved(tmp_path / "resumed" / "4.ckpt")) == []


def test_what_is_not_finite_is_named_in_a_later_view_too(image_folder, weights_file, quiet_trainer, tmp_path):
    backbone = backbone_of(weights_file)
    forward = type(backbone).forward

    def spoil(self, images):
        features = forward(self, images)
        spoilt.append(0 if images.is_meta else len(images))
        if sum(spoilt) == 24 + 5:  # the fifth image's second view
            features[0, 0, 0, 0] = torch.nan
        return features

    spoilt = []
    type(backbone).forward, before = spoil, forward
    try:
        with pytest.raises(StoreError, match=r"features of train image train/cats/cats\.2\.jpg are not finite"):
            extract_features(
                quiet_trainer(),
                backbone,
                images_of(image_folder, image_size=64, batch_size=1),
                root=tmp_path,
                views=2,
            )
    finally:
        type(backbone).forward = before
