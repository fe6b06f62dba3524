"""FeatureDataModule serves exactly what the store holds."""

import numpy as np
import pytest
import torch

from lightning_transfer import Backbone, FeatureDataModule, FeatureStore, ImageFolderDataModule, extract_features
from lightning_transfer.errors import StoreError
from lightning_transfer.features import datamodule
from lightning_transfer.utils.machine import available_memory


@pytest.fixture(scope="module")
def store(image_folder, weights_file, tmp_path_factory):
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    images = ImageFolderDataModule(str(image_folder), image_size=64, num_workers=0)
    root = tmp_path_factory.mktemp("features")
    return extract_features(trainer, Backbone("squeezenet1_1", str(weights_file)), images, root=root)


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    batches = list(loader)
    return torch.cat([features for features, _ in batches]), torch.cat([labels for _, labels in batches])


def test_batches_are_features_and_labels(store):
    data = FeatureDataModule(store, batch_size=7)
    features, labels = next(iter(data.train_dataloader()))
    assert (features.shape, features.dtype) == ((7, *store.feature_shape), torch.float16)
    assert (labels.shape, labels.dtype) == ((7,), torch.int64)
    assert (data.class_names, data.num_classes) == (("cats", "dogs"), 2)


def test_evaluation_is_in_the_stores_order_and_validation_in_that_of_the_images_loader(store, image_folder):
    data = FeatureDataModule(str(store.path))
    with pytest.raises(StoreError, match=r"not open yet: call setup"):
        _ = data.store
    data.setup()
    assert (data.image_size, data.splits) == (64, ("train", "validation", "test"))
    mixed = np.random.default_rng(0).permutation(12)
    for loader, split, order in (
        (data.val_dataloader(), "validation", mixed),
        (data.test_dataloader(), "test", range(12)),
    ):
        features, labels = epoch(loader)
        np.testing.assert_array_equal(features, store.features(split)[order])
        np.testing.assert_array_equal(labels, store.labels(split)[order])
    images = ImageFolderDataModule(str(image_folder), image_size=64, num_workers=0)
    images.setup()
    assert list(images.val_dataloader().dataset.indices) == list(data.val_dataloader().dataset.indices)


def test_training_takes_every_sample_once_in_the_order_of_the_images_loader(store, image_folder):
    images = ImageFolderDataModule(str(image_folder), image_size=64, seed=4, num_workers=0)
    images.setup()
    data = FeatureDataModule(store, seed=4)
    orders = []
    for number in (0, 1, 0):
        features, labels = epoch(data.train_dataloader(), number)
        _, expected = epoch(images.train_dataloader(), number)
        assert labels.tolist() == expected.tolist()
        rows = [
            int(np.flatnonzero((store.features("train") == row.numpy()).all(axis=(1, 2, 3)))[0])
            for row in features
        ]
        assert sorted(rows) == list(range(24))
        orders.append(rows)
    assert orders[0] == orders[2] != orders[1]


def test_a_batch_is_one_read(store, monkeypatch):
    reads = []
    features = store.features("train")

    class Counting:
        shape, dtype = features.shape, features.dtype

        def __getitem__(self, indices):
            reads.append(len(indices))
            return np.asarray(features[indices])

    monkeypatch.setattr(FeatureStore, "features", lambda self, split, view=0: Counting())
    list(FeatureDataModule(store, batch_size=8).train_dataloader())
    assert reads == [8, 8, 8]


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_it_tells_how_its_images_were_resized(resize, image_folder, weights_file, quiet_trainer, tmp_path):
    images = ImageFolderDataModule(str(image_folder), image_size=64, resize=resize, num_workers=0)
    backbone = Backbone("squeezenet1_1", str(weights_file))
    assert FeatureDataModule(extract_features(quiet_trainer(), backbone, images, root=tmp_path)).resize == resize


def test_in_memory_it_serves_the_same_and_the_disk_is_read_once(store, monkeypatch):
    mapped, kept = FeatureDataModule(store, seed=3), FeatureDataModule(store, seed=3, in_memory=True)
    for one, other in zip(epoch(mapped.train_dataloader(), 2), epoch(kept.train_dataloader(), 2), strict=True):
        assert torch.equal(one, other)
    assert not isinstance(kept.train_dataloader().dataset.views[0], np.memmap)
    assert isinstance(mapped.train_dataloader().dataset.views[0], np.memmap)


def test_what_does_not_fit_into_memory_is_refused_at_once(store, monkeypatch):
    monkeypatch.setattr(datamodule, "available_memory", lambda: 1000)
    with pytest.raises(StoreError, match=r"bytes, and 1,000 of memory are free: leave in_memory off"):
        FeatureDataModule(store, in_memory=True).setup()
    FeatureDataModule(store).setup()
    assert 10**8 < available_memory() < 10**14
