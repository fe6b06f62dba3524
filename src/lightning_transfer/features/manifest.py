"""What a feature store says of itself.

Shapes: C channels, h w feature map, K classes, N samples, V views.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_transfer.errors import StoreError

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class SplitManifest:
    """What one split of a store holds.

    Attributes:
        paths: N picture files, below the data's root.
        labels: N class indices.
        views: V, how often each picture was taken: as it is, and V - 1 times augmented.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    views: int = 1

    def __len__(self) -> int:
        """V · N, the rows of its array."""
        return self.views * len(self.paths)

    def path(self, row: int) -> str:
        """The picture file of a row; rows go through all pictures, view by view."""
        return self.paths[row % len(self.paths)]


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
        """(N, C, h, w) of one split, or (V, N, C, h, w) where there are several views."""
        found = self.splits[split]
        views = (found.views,) if found.views > 1 else ()
        return (*views, len(found.paths), *self.feature_shape)

    def header(self, split: str) -> bytes:
        """The beginning of the split's .npy file, which says type and shape."""
        buffer = io.BytesIO()
        fields = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": self.shape(split)}
        np.lib.format.write_array_header_1_0(buffer, fields)
        return buffer.getvalue()

    def file_bytes(self, split: str) -> int:
        """Size of the split's .npy file."""
        return len(self.header(split)) + math.prod(self.shape(split)) * np.dtype(self.dtype).itemsize

    def to_json(self) -> str:
        """The manifest's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False)

    def num_bytes(self) -> int:
        """Size of all arrays together."""
        return sum(self.file_bytes(split) for split in self.splits)


def read_manifest(path: Path) -> Manifest:
    """Reads the manifest of a complete store.

    Args:
        path: The store's folder.

    Raises:
        StoreError: There is none, or it is damaged or of another format.
    """
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
                name: SplitManifest(tuple(split["paths"]), tuple(split["labels"]), split.get("views", 1))
                for name, split in fields["splits"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"The feature store's {file} cannot be used ({error}). Remove {path}; the features are then "
            "extracted again."
        ) from error
