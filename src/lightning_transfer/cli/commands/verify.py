"""`lightning-transfer verify`: whether a feature store is sound."""

from __future__ import annotations

from rich.console import Console

from lightning_transfer.features.store import FeatureStore


def verify(store: str) -> FeatureStore:
    """Read all of a feature store, and say whether it is what was made.

    Manifest and arrays are compared with the sha256 that were taken when it was made.

    Args:
        store: Its folder, the one that holds manifest.json.

    Returns:
        The store.

    Raises:
        StoreError: It is absent or damaged; names the file.
    """
    opened = FeatureStore(store)
    opened.verify()
    images = sum(len(opened.paths(split)) for split in opened.splits)
    Console(soft_wrap=True, highlight=False, markup=False).print(
        f"{store}: {images:,} images, {opened.manifest.num_bytes() / 1e6:,.1f} MB: sound"
    )
    return opened
