"""Checks of a store's arrays.

Each opening compares size and first bytes (type and shape) of every array with the manifest. The sha256 of the
arrays is written to the manifest when a store is published, and compared by `FeatureStore.verify` only, which is
what `lightning-transfer verify` calls: a bit that flipped on disk is found there, not by each opening.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lightning_transfer.features.manifest import Manifest, damaged
from lightning_transfer.utils.files import sha256_of


def with_sha256(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest of finished arrays, with the sha256 of each.

    Raises:
        OSError: An array cannot be read.
    """
    return replace(manifest, sha256={split: sha256_of(folder / f"{split}.npy") for split in manifest.splits})


def check_array(folder: Path, manifest: Manifest, split: str) -> None:
    """Compare size and header of one array with the manifest.

    Raises:
        StoreError: They differ, or the array is missing or cannot be read; names its file.
    """
    file, size, header = folder / f"{split}.npy", manifest.file_bytes(split), manifest.header(split)
    try:
        if not file.is_file():
            raise damaged(file, f"is missing, wanted {size:,} bytes")
        if (found := file.stat().st_size) != size:
            raise damaged(file, f"has {found:,} bytes, wanted {size:,} bytes")
        with file.open("rb") as opened:
            if opened.read(len(header)) != header:
                raise damaged(file, f"does not begin as {manifest.shape(split)} {manifest.dtype} does")
    except OSError as error:
        raise damaged(file, f"cannot be read: {error.strerror}") from error


def check_sha256(folder: Path, manifest: Manifest, split: str) -> None:
    """Read one array and compare its sha256 with the manifest.

    Raises:
        StoreError: It differs, or the array cannot be read; names its file.
    """
    file, wanted = folder / f"{split}.npy", manifest.sha256[split]
    try:
        found = sha256_of(file)
    except OSError as error:
        raise damaged(file, f"cannot be read: {error.strerror}") from error
    if found != wanted:
        raise damaged(file, f"has changed since it was made (its sha256 is {found}, wanted {wanted})")
