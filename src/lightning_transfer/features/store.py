"""Read a backbone's outputs from disk: one memory-mapped array a split, beside a manifest.

A store is complete or absent; see `StoreBuilder`. Its folder's name ends in its fingerprint, so other inputs make
another store beside it.

Shapes: C channels, h w feature map, T tokens, D features, K classes, N samples, V views.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_transfer.errors import StoreError
from lightning_transfer.features.integrity import check_array, check_sha256
from lightning_transfer.features.manifest import read_manifest
from lightning_transfer.utils.arguments import path_text


class FeatureStore:
    """A complete store, opened for reading.

    Size, type and shape of its arrays are checked at each opening, their contents by `verify`. An array that is
    truncated while it is mapped cannot be noticed: the system then ends the process that reads it (SIGBUS).

    Args:
        path: Its folder, as `extract_features` returned it.

    Attributes:
        path: As above.
        manifest: What it holds.

    Raises:
        StoreError: It is absent, incomplete or damaged; says which file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path_text("store", path, StoreError))
        self.manifest = read_manifest(self.path)
        for split in self.splits:
            check_array(self.path, self.manifest, split)

    def verify(self) -> None:
        """Read all arrays, and compare their sha256 with the manifest.

        Raises:
            StoreError: An array has changed since it was made; names its file.
        """
        for split in self.splits:
            check_sha256(self.path, self.manifest, split)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name} {len(split.paths):,}" + (f" × {split.views} views" if split.views > 1 else "")
            for name, split in self.manifest.splits.items()
        )
        return f"FeatureStore({str(self.path)!r}: {sizes}; {self.manifest.feature_shape} {self.manifest.dtype})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; a label is an index into them."""
        return self.manifest.class_names

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """(C, h, w) of maps, (T, D) of tokens."""
        return self.manifest.feature_shape

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(self.manifest.splits)

    def views(self, split: str) -> int:
        """V: how often each image of a split is there; the training split alone has more than one.

        Raises:
            StoreError: There is no such split.
        """
        self._check(split)
        return self.manifest.splits[split].views

    def features(self, split: str, view: int = 0) -> npt.NDArray[Any]:
        """(N, C, h, w) or (N, T, D) in the store's dtype, memory-mapped: only what is read is loaded.

        Args:
            split: Its name.
            view: Which one; 0 is the images as they are.

        Raises:
            StoreError: There is no such split or view, or its file is no longer what it was.
        """
        self._check(split)
        if not 0 <= view < self.views(split):
            raise StoreError(
                f"{self.path} has {self.views(split)} views of {split}: wanted one from 0, got {view}."
            )
        check_array(self.path, self.manifest, split)  # mapped beyond its end, it would kill the process
        features: npt.NDArray[Any] = np.memmap(
            self.path / f"{split}.npy",
            dtype=self.manifest.dtype,
            mode="r",
            offset=len(self.manifest.header(split)),
            shape=self.manifest.shape(split),
        )
        return features[view] if self.views(split) > 1 else features

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.manifest.multi_label

    def labels(self, split: str) -> npt.NDArray[Any]:
        """(N,) int64 class indices; of a multi-label store (N, K) float32, 1 for each class that an image has.

        Raises:
            StoreError: There is no such split.
        """
        self._check(split)
        labels = self.manifest.splits[split].labels
        if not self.multi_label:
            return np.array(labels, dtype=np.int64)
        found = np.zeros((len(labels), len(self.class_names)), np.float32)
        for row, classes in zip(found, labels, strict=True):
            row[list(classes)] = 1
        return found

    def paths(self, split: str) -> tuple[str, ...]:
        """N image files, below the data's root, in the order of the features.

        Raises:
            StoreError: There is no such split.
        """
        self._check(split)
        return self.manifest.splits[split].paths

    def _check(self, split: str) -> None:
        if split not in self.manifest.splits:
            raise StoreError(f"{self.path} has no split {split!r}; it has {', '.join(self.splits)}.")
