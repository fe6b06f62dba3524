"""Serves a feature store to a Trainer.

Shapes: B batch, C channels, h w feature map, V views.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.data.sampler import EpochIndexSampler
from lightning_transfer.errors import StoreError
from lightning_transfer.features.store import FeatureStore

Batch = tuple[Tensor, Tensor]


class FeatureDataset(Dataset[Batch]):
    """One split of a store, fetched a batch at a time: ((B, C, h, w) in the store's dtype, (B,) int64).

    Samples are asked for as (epoch, index): epoch e has view e mod V. Only what a batch holds is read, unless all
    is to be kept in memory.
    """

    def __init__(self, store: FeatureStore, split: str, in_memory: bool = False) -> None:
        self.views = [store.features(split, view) for view in range(store.views(split))]
        if in_memory:
            self.views = [np.array(view) for view in self.views]
        self.labels = torch.from_numpy(store.labels(split))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, places: list[tuple[int, int]]) -> Batch:
        """What DataLoader calls, where there is one, in place of `__getitem__` for each sample."""
        epoch, _ = places[0]  # a batch is of one epoch
        indices = np.array([index for _, index in places])
        # In the order of the file, which a disk likes better, and then in the batch's.
        order = indices.argsort()
        features = np.empty((len(indices), *self.views[0].shape[1:]), self.views[0].dtype)
        features[order] = self.views[epoch % len(self.views)][indices[order]]
        return torch.from_numpy(features), self.labels[indices]


def _as_it_is(batch: Any) -> Any:
    return batch


class FeatureDataModule(LightningDataModule):
    """Batches of stored features and labels: ((B, C, h, w) in the store's dtype, (B,) int64).

    Args:
        store: A store, or its folder.
        batch_size: B, a process.
        seed: Of the order in each epoch.
        images: The images that the features were made of; only callbacks that show some of them need these.
        in_memory: Read each split once, and keep it; for stores on slow disks.

    Raises:
        StoreError: The store is absent or damaged, or it is of other images; or it does not fit into memory.
    """

    def __init__(
        self,
        store: FeatureStore | str | Path,
        batch_size: int = 20,
        seed: int = 0,
        images: ImageDataModule | None = None,
        in_memory: bool = False,
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, FeatureStore) else FeatureStore(store)
        self.images = images
        self.in_memory = in_memory
        if in_memory:
            _check_memory(self.store)
        if images is not None:
            for split in self.store.splits:
                if self.store.paths(split) != images.dataset(split).samples.paths:
                    raise StoreError(
                        f"{self.store.path} holds features of other {split} images than {images.index.root}: "
                        "pass the data module that they were extracted from."
                    )
        self.batch_size = batch_size
        self.seed = seed

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; a label is an index into them."""
        return self.store.class_names

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def resize(self) -> str:
        """How the images were brought to their size, "squash" or "crop"."""
        return str(self.store.manifest.recipe["resize"])

    @property
    def last_stage(self) -> str:
        """The stage of the backbone whose outputs these are."""
        return str(self.store.manifest.recipe["last_stage"])

    @property
    def backbone_fingerprint(self) -> str:
        """Of the backbone up to that stage, see `Backbone.fingerprint`."""
        return str(self.store.manifest.recipe["backbone_fingerprint"])

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self.store.feature_shape

    def class_counts(self, split: str = "train") -> tuple[int, ...]:
        """How many samples of each class a split has, K numbers."""
        return tuple(np.bincount(self.store.labels(split), minlength=self.num_classes).tolist())

    def loader(self, split: str, shuffle: bool = False) -> DataLoader[Batch]:
        """Batches of one split; shuffled by (seed, epoch) where wanted.

        Reading is a copy out of the page cache, for which a worker process would cost more than it saves.
        """
        dataset = FeatureDataset(self.store, split, self.in_memory)
        sampler = EpochIndexSampler(len(dataset), self.seed, shuffle)
        if shuffle:
            sampler.follow(self.trainer)
        # By keyword: Lightning makes a loader anew for predict, from the arguments by name.
        return DataLoader(dataset, batch_size=self.batch_size, sampler=sampler, collate_fn=_as_it_is)

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training split, shuffled."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, in order."""
        return self.loader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split, in order."""
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test split, in order."""
        return self.loader("test")


def _check_memory(store: FeatureStore) -> None:
    wanted, free = store.manifest.num_bytes(), available_memory()
    if free is not None and wanted > free:
        raise StoreError(
            f"{store.path} has {wanted:,} bytes, and {free:,} of memory are free: leave in_memory off, and only "
            "what a batch holds is read."
        )


def available_memory() -> int | None:
    """What can be had without swapping, in bytes; None where the system does not say."""
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    lines = dict(line.split(":") for line in table.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
