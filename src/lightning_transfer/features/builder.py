"""Build a feature store in a staging folder, write the manifest last, then rename it into place.

Shapes: C channels, h w feature map, T tokens, D features.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from lightning_transfer.errors import StoreError
from lightning_transfer.features.integrity import with_sha256
from lightning_transfer.features.manifest import MANIFEST, Manifest
from lightning_transfer.utils.files import acquire, lock_of, remove_staging, staging_of, sync

PATIENCE = 60.0  # seconds, after which NFS shows to a machine what another one has made


class StoreBuilder:
    """Write a store, from one process or several.

    One process calls `begin`, the others `join` it; if it said so, each writes its share, and then the first calls
    `publish`.

    Args:
        path: Where the store will stand.
        manifest: What it will hold.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.staging = staging_of(path)
        self._lock = FileLock(lock_of(path))

    def exists(self) -> bool:
        """Return whether the complete store exists."""
        return (self.path / MANIFEST).is_file()

    def begin(self) -> bool:
        """Claim the store for this process, and reserve its room on disk.

        Waits for another process that builds the same store.

        Returns:
            Whether the store is still to be built; False where it is there by now.

        Raises:
            StoreError: The disk is too full, or the folder cannot be written; or what is left of a store is in its
                place.
        """
        with self._mendable():
            if self.path.exists() and not self.exists():
                raise StoreError(f"{self.path} is there, without a {MANIFEST}: remove it, to extract again.")
            if self.exists():
                return False
            self.path.parent.mkdir(parents=True, exist_ok=True)
            acquire(self._lock)
            if self.exists():
                self._lock.release()
                return False
            remove_staging(self.path)
            self.staging.mkdir()
            for split in self.manifest.splits:
                with (self.staging / f"{split}.npy").open("wb") as file:
                    _reserve(file.fileno(), self.manifest.file_bytes(split))
                    file.write(self.manifest.header(split))
        return True

    def join(self, staging: str | None) -> bool:
        """Join what another process has begun, perhaps on another machine.

        Args:
            staging: The name of the other one's staging folder; None where the store must be there, complete.

        Returns:
            Whether this process sees that. Where it does not, that takes `PATIENCE` to say.
        """
        if staging is not None:
            self.staging = self.path.with_name(staging)
        deadline = time.monotonic() + PATIENCE
        while not (self.exists() if staging is None else self.staging.is_dir()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def write(self, split: str, rows: Sequence[int], features: npt.NDArray[Any]) -> None:
        """Write the features of some rows of a split.

        Args:
            split: Its name.
            rows: Which of its V · N rows, n of them.
            features: (n, C, h, w) or (n, T, D), floating.

        Raises:
            StoreError: A feature is not finite in the store's dtype; names the image. Or the staging folder has
                gone, or cannot be written.
        """
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(features, dtype=self.manifest.dtype)
        finite = np.isfinite(stored).reshape(len(stored), -1).all(axis=1)
        if not finite.all():
            image = self.manifest.splits[split].path(rows[int(np.argmin(finite))])
            raise StoreError(
                f"The features of {split} image {image} are not finite in {self.manifest.dtype}. "
                "If its pixels are sound, store them wider: --features.dtype float32."
            )
        start, row_bytes = len(self.manifest.header(split)), stored[0].nbytes
        # By position, not through a map: a full disk is then an error, where it would kill the process.
        with self._mendable():
            descriptor = os.open(self.staging / f"{split}.npy", os.O_WRONLY)
            try:
                for row, values in zip(rows, stored, strict=True):
                    _write_all(descriptor, memoryview(values).cast("B"), start + row * row_bytes)
            finally:
                os.close(descriptor)

    def publish(self) -> None:
        """Make the store appear, complete, after reading all arrays for their sha256.

        Raises:
            StoreError: The staging folder has gone, or cannot be written.
        """
        with self._mendable():
            for split in self.manifest.splits:
                sync(self.staging / f"{split}.npy")
            text = with_sha256(self.staging, self.manifest).to_json()
            (self.staging / MANIFEST).write_text(text, encoding="utf-8", errors="surrogateescape")
            sync(self.staging / MANIFEST)
            sync(self.staging)
            try:
                self.staging.rename(self.path)
            except OSError as error:
                # Locks do not reach every shared folder: where another machine was first, its store stays.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            sync(self.path.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the staging folder, if it is this builder's, and let other processes begin."""
        # Without the lock the folder is that of another process, for which this one may just have waited.
        if self._lock.is_locked:
            shutil.rmtree(self.staging, ignore_errors=True)
            self._lock.release()

    @contextmanager
    def _mendable(self) -> Iterator[None]:
        """End this build where the system refuses something, and say what to do."""
        try:
            yield
        except FileNotFoundError as error:
            self.discard()
            raise StoreError(
                f"{self.staging} has gone. Perhaps another job makes the same store, on a machine that locks do "
                "not reach: extract once, in one job, before the others begin."
            ) from error
        except OSError as error:
            self.discard()
            raise StoreError(
                f"A feature store of {self.manifest.num_bytes():,} bytes cannot be made at {self.path}: "
                f"{error.strerror}. Make room, or choose another place (--features.root)."
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
