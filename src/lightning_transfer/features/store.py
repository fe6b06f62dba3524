"""A base's outputs on disk: one memory-mapped array a split, beside a manifest; numpy only.

A store is complete or absent. It is written in a staging folder, the manifest last, and then renamed into place.
Its folder's name ends in its fingerprint, so that other inputs make another store beside it.

Shapes: C channels, h w feature map, N samples.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from lightning_transfer.errors import StoreError

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class SplitManifest:
    """What one split of a store holds.

    Attributes:
        paths: N picture files, below the data's root.
        labels: N class indices.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """What a store is and what it was made from.

    Attributes:
        fingerprint: Of everything that determines the features.
        recipe: The same in words, for people.
        class_names: K names.
        feature_shape: (C, h, w).
        dtype: numpy's name of the features' type.
        splits: By name.
    """

    fingerprint: str
    recipe: dict[str, Any]
    class_names: tuple[str, ...]
    feature_shape: tuple[int, int, int]
    dtype: str
    splits: dict[str, SplitManifest]

    def shape(self, split: str) -> tuple[int, ...]:
        """(N, C, h, w) of one split."""
        return (len(self.splits[split].paths), *self.feature_shape)

    def header(self, split: str) -> bytes:
        """The beginning of the split's .npy file, which says type and shape."""
        buffer = io.BytesIO()
        fields = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": self.shape(split)}
        np.lib.format.write_array_header_1_0(buffer, fields)
        return buffer.getvalue()

    def file_bytes(self, split: str) -> int:
        """Size of the split's .npy file."""
        return len(self.header(split)) + math.prod(self.shape(split)) * np.dtype(self.dtype).itemsize

    def num_bytes(self) -> int:
        """Size of all arrays together."""
        return sum(self.file_bytes(split) for split in self.splits)


class FeatureStore:
    """A complete store, opened for reading.

    Args:
        path: Its folder, as `extract_features` returned it.

    Attributes:
        path: As above.
        manifest: What it holds.

    Raises:
        StoreError: It is absent, incomplete or damaged; says which file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)
        for split in self.manifest.splits:
            file, expected = self.path / f"{split}.npy", self.manifest.file_bytes(split)
            found = file.stat().st_size if file.is_file() else None
            if found != expected:
                came = "is missing" if found is None else f"has {found:,} bytes"
                raise StoreError(
                    f"The feature store is damaged: {file} {came}, wanted {expected:,} bytes. "
                    f"Remove {self.path}; the features are then extracted again."
                )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split.paths):,}" for name, split in self.manifest.splits.items())
        return f"FeatureStore({str(self.path)!r}: {sizes}; {self.manifest.feature_shape} {self.manifest.dtype})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; a label is an index into them."""
        return self.manifest.class_names

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self.manifest.feature_shape

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(self.manifest.splits)

    def features(self, split: str) -> npt.NDArray[Any]:
        """(N, C, h, w) in the store's dtype, memory-mapped: only what is read is loaded.

        Raises:
            StoreError: There is no such split.
        """
        self._check(split)
        features: npt.NDArray[Any] = np.load(self.path / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        if features.shape != self.manifest.shape(split) or features.dtype != self.manifest.dtype:
            raise StoreError(
                f"The feature store is damaged: {self.path / f'{split}.npy'} holds {features.shape} "
                f"{features.dtype}, wanted {self.manifest.shape(split)} {self.manifest.dtype}. "
                f"Remove {self.path}; the features are then extracted again."
            )
        return features

    def labels(self, split: str) -> npt.NDArray[np.int64]:
        """(N,) int64.

        Raises:
            StoreError: There is no such split.
        """
        self._check(split)
        return np.array(self.manifest.splits[split].labels, dtype=np.int64)

    def paths(self, split: str) -> tuple[str, ...]:
        """N picture files, below the data's root, in the order of the features.

        Raises:
            StoreError: There is no such split.
        """
        self._check(split)
        return self.manifest.splits[split].paths

    def _check(self, split: str) -> None:
        if split not in self.manifest.splits:
            raise StoreError(f"{self.path} has no split {split!r}; it has {', '.join(self.splits)}.")


class StoreBuilder:
    """Writes a store, from one process or several.

    One process calls `begin`; if it says so, each writes its share, and then the first calls `publish`.

    Args:
        path: Where the store will stand.
        manifest: What it will hold.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.staging = path.with_name(f".{path.name}.staging")
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))

    def exists(self) -> bool:
        """Whether the complete store is there already."""
        return (self.path / MANIFEST).is_file()

    def begin(self) -> bool:
        """Claims the store for this process, and reserves its room on disk.

        Waits for another process that builds the same store.

        Returns:
            Whether the store is still to be built; False where it is there by now.

        Raises:
            StoreError: The disk is too full, or the folder cannot be written.
        """
        if self.exists():
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._acquire()
            if self.exists():
                self._lock.release()
                return False
            shutil.rmtree(self.staging, ignore_errors=True)
            self.staging.mkdir()
            for split in self.manifest.splits:
                with (self.staging / f"{split}.npy").open("wb") as file:
                    _reserve(file.fileno(), self.manifest.file_bytes(split))
                    file.write(self.manifest.header(split))
        except OSError as error:
            self.discard()
            raise StoreError(
                f"A feature store of {self.manifest.num_bytes():,} bytes cannot be made at {self.path}: "
                f"{error.strerror}. Make room, or choose another place (--features.root)."
            ) from error
        return True

    def write(self, split: str, rows: Sequence[int], features: npt.NDArray[Any]) -> None:
        """Writes the features of some samples of a split.

        Args:
            split: Its name.
            rows: Which samples, n of them.
            features: (n, C, h, w), floating.

        Raises:
            StoreError: A feature is not finite in the store's dtype; names the picture.
        """
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(features, dtype=self.manifest.dtype)
        finite = np.isfinite(stored).reshape(len(stored), -1).all(axis=1)
        if not finite.all():
            picture = self.manifest.splits[split].paths[rows[int(np.argmin(finite))]]
            raise StoreError(
                f"The features of {split} picture {picture} are not finite in {self.manifest.dtype}. "
                "If its pixels are sound, store them wider: --features.dtype float32."
            )
        start, row_bytes = len(self.manifest.header(split)), stored[0].nbytes
        # By position, not through a map: a full disk is then an error, where it would kill the process.
        descriptor = os.open(self.staging / f"{split}.npy", os.O_WRONLY)
        try:
            for row, values in zip(rows, stored, strict=True):
                _write_all(descriptor, memoryview(values).cast("B"), start + row * row_bytes)
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Makes the store appear, complete."""
        for split in self.manifest.splits:
            _sync(self.staging / f"{split}.npy")
        text = json.dumps({"format": FORMAT, **asdict(self.manifest)}, indent=1, ensure_ascii=False)
        (self.staging / MANIFEST).write_text(text, encoding="utf-8")
        _sync(self.staging / MANIFEST)
        try:
            self.staging.rename(self.path)
        except OSError as error:
            # Locks do not reach every shared folder: where another machine was first, its store stays.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        self.discard()

    def discard(self) -> None:
        """Removes the staging folder, and lets other processes begin."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=1)
        except Timeout:
            print(f"Another process is making {self.path}; waiting for it ({self._lock.lock_file}).")  # noqa: T201
            self._lock.acquire()


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        raise StoreError(f"There is no complete feature store at {path}: {MANIFEST} is missing.")
    try:
        fields: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if fields["format"] != FORMAT:
            raise ValueError(f"format {fields['format']}, this version reads {FORMAT}")
        return Manifest(
            fingerprint=fields["fingerprint"],
            recipe=fields["recipe"],
            class_names=tuple(fields["class_names"]),
            feature_shape=tuple(fields["feature_shape"]),
            dtype=fields["dtype"],
            splits={
                name: SplitManifest(tuple(split["paths"]), tuple(split["labels"]))
                for name, split in fields["splits"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"The feature store's {file} cannot be used ({error}). Remove {path}; the features are then "
            "extracted again."
        ) from error


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
