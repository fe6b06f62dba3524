"""Serve a feature store to a Trainer.

Shapes: B batch, C channels, h w feature map, T tokens, D features, K classes, V views.
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
from lightning_transfer.data.last_batch import drops_last
from lightning_transfer.data.order import in_order
from lightning_transfer.data.sampler import Place, epoch_and_index
from lightning_transfer.errors import StoreError
from lightning_transfer.features.store import FeatureStore
from lightning_transfer.utils.arguments import flag, instance, path_text, positive, whole_number
from lightning_transfer.utils.given_arguments import given_arguments
from lightning_transfer.utils.machine import available_memory

Batch = tuple[Tensor, Tensor]


class FeatureDataset(Dataset[Batch]):
    """One split of a store, fetched a batch at a time: ((B, C, h, w) or (B, T, D) in the store's dtype, labels).

    Labels are (B,) int64, of a multi-label store (B, K) float32.

    Samples are asked for as (epoch, index): epoch e has view e mod V; an index alone is in epoch 0. Only what a
    batch holds is read, unless all is to be kept in memory.
    """

    def __init__(self, store: FeatureStore, split: str, in_memory: bool = False) -> None:
        self.views = [store.features(split, view) for view in range(store.views(split))]
        if in_memory:
            self.views = [np.array(view) for view in self.views]
        self.labels = torch.from_numpy(store.labels(split))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, places: list[Place]) -> Batch:
        """Fetch a batch; DataLoader calls this instead of `__getitem__` for each sample."""
        epochs, indices = np.array([epoch_and_index(place) for place in places]).T
        epoch = int(epochs[0])  # a batch is of one epoch
        # In the order of the file, which a disk likes better, and then in the batch's.
        order = indices.argsort()
        features = np.empty((len(indices), *self.views[0].shape[1:]), self.views[0].dtype)
        features[order] = self.views[epoch % len(self.views)][indices[order]]
        return torch.from_numpy(features), self.labels[indices]


def _as_it_is(batch: Any) -> Any:
    return batch


class FeatureDataModule(LightningDataModule):
    """Batches of stored features and labels: ((B, C, h, w) or (B, T, D) in the store's dtype, (B,) int64).

    Labels of a multi-label store are (B, K) float32. A store that is given by its folder is opened in `setup`.

    Args:
        store: A store, or its folder.
        batch_size: B, for each process.
        seed: Of the order in each epoch.
        images: The images that the features were extracted from; only callbacks that show some of them need these.
        in_memory: Read each split once, and keep it; for stores on slow disks.

    Raises:
        StoreError: `store` is neither a store nor a path.
        DataError: Another argument is of the wrong type, or out of range; names it and its value.
    """

    def __init__(
        self,
        store: FeatureStore | str | Path,
        *,
        batch_size: int = 20,
        seed: int = 0,
        images: ImageDataModule | None = None,
        in_memory: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(store, FeatureStore):
            path_text("store", store, StoreError)
        self._store = store
        self.batch_size = positive("batch_size", batch_size)
        self.seed = whole_number("seed", seed)
        self.images = None if images is None else instance("images", images, ImageDataModule)
        self.in_memory = flag("in_memory", in_memory)

    def setup(self, stage: str | None = None) -> None:
        """Open the store, and compare its images with `images`.

        Raises:
            StoreError: The store is absent or damaged, or it is of other images, or it does not fit into memory.
        """
        if not isinstance(self._store, FeatureStore):
            self._store = FeatureStore(self._store)
        if self.in_memory:
            _check_memory(self.store)
        if self.images is not None:
            self.images.default_size = self.image_size
            self.images.setup(stage)
            for split in self.store.splits:
                if self.store.paths(split) != self.images.dataset(split).samples.paths:
                    raise StoreError(
                        f"{self.store.path} holds features of other {split} images than "
                        f"{self.images.index.root}: pass the data module that they were extracted from."
                    )

    @property
    def store(self) -> FeatureStore:
        """The opened store.

        Raises:
            StoreError: It was given by its folder, and `setup` has not opened it yet.
        """
        if not isinstance(self._store, FeatureStore):
            raise StoreError(f"The feature store {self._store} is not open yet: call setup() first.")
        return self._store

    @property
    def arguments(self) -> dict[str, Any]:
        """What this data module was made with, and the store's recipe: a resumed run tells what has changed.

        Left out is what does not change the batches, and the backbone, which is compared with the module's.
        """
        recipe = self.store.manifest.recipe
        told = {name: value for name, value in recipe.items() if name not in ("backbone", "backbone_fingerprint")}
        return {**given_arguments(self, ("store", "images", "in_memory")), "store": told}

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; a label is an index into them."""
        return self.store.class_names

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.store.multi_label

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return self.store.splits

    @property
    def image_size(self) -> int:
        """H and W of the images that the features were extracted from."""
        return int(self.store.manifest.recipe["image_size"])

    @property
    def resize(self) -> str:
        """How the images were resized, "squash" or "crop"."""
        return str(self.store.manifest.recipe["resize"])

    @property
    def max_pixels(self) -> int | None:
        """The largest H · W of a file, as far as `images` tell; see `ImageDataModule`."""
        return None if self.images is None else self.images.max_pixels

    @property
    def bit_depth(self) -> int | None:
        """How many bits a 16-bit file uses, as far as `images` tell."""
        return getattr(self.images, "bit_depth", None)

    @property
    def last_stage(self) -> str:
        """The stage of the backbone whose outputs these are."""
        return str(self.store.manifest.recipe["last_stage"])

    @property
    def backbone_fingerprint(self) -> str:
        """The fingerprint of the backbone up to that stage, see `Backbone.fingerprint`."""
        return str(self.store.manifest.recipe["backbone_fingerprint"])

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """(C, h, w) of maps, (T, D) of tokens."""
        return self.store.feature_shape

    def num_samples(self, split: str = "train") -> int:
        """Return N, how many samples a split has."""
        return len(self.store.paths(split))

    def class_counts(self, split: str = "train") -> tuple[int, ...]:
        """Count the samples of each class of a split, K numbers."""
        labels = self.store.labels(split)
        if self.multi_label:
            return tuple(labels.sum(axis=0).astype(int).tolist())
        return tuple(np.bincount(labels, minlength=self.num_classes).tolist())

    def loader(self, split: str, shuffle: bool = False) -> DataLoader[Batch]:
        """Make a loader of one split, in the order in which `ImageDataModule` serves its images.

        Reading is a copy out of the page cache, for which a worker process would cost more than it saves.
        """
        features = FeatureDataset(self.store, split, self.in_memory)
        dataset, sampler = in_order(features, self.trainer, split, self.seed, shuffle)
        # By keyword: Lightning makes a new loader for predict, from the arguments by name.
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=_as_it_is,
            drop_last=shuffle and drops_last(self.trainer, len(features), self.batch_size),
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training split, shuffled."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, in a fixed mixed order."""
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
