"""Feature store metadata.

Shapes: C channels, h w feature map, T tokens, D features, K classes, N samples, V views.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightning_transfer.errors import StoreError

FORMAT = 3  # of a store; part of each store's fingerprint, so that another one makes other stores
MANIFEST = "manifest.json"
OWN_DIGEST = "manifest_sha256"
DTYPES = ("float16", "float32")
LARGEST = 2**40  # no view, channel, row or column of a sound store has such a number


@dataclass(frozen=True)
class SplitManifest:
    """Contents of one split of a store.

    Attributes:
        paths: N image files, below the data's root.
        labels: N class indices; N tuples of them where the store is multi-label.
        views: V, how often each image was taken: as it is, and V - 1 times augmented.
    """

    paths: tuple[str, ...]
    labels: tuple[Any, ...]
    views: int = 1

    def __len__(self) -> int:
        """V · N, the rows of its array."""
        return self.views * len(self.paths)

    def path(self, row: int) -> str:
        """The image file of a row; rows go through all images, view by view."""
        return self.paths[row % len(self.paths)]


@dataclass(frozen=True)
class Manifest:
    """Contents and origin of a store.

    Attributes:
        fingerprint: Of everything that determines the features.
        recipe: The same in words, for people.
        class_names: K names.
        feature_shape: (C, h, w) of maps, (T, D) of tokens.
        dtype: numpy's name of the features' type.
        splits: By name.
        multi_label: Whether a label is a tuple of class indices.
        sha256: Of each split's .npy file; known once the store is published. Manifests may be equal without it.
    """

    fingerprint: str
    recipe: dict[str, Any]
    class_names: tuple[str, ...]
    feature_shape: tuple[int, ...]
    dtype: str
    splits: dict[str, SplitManifest]
    multi_label: bool = False
    sha256: dict[str, str] = field(default_factory=dict, compare=False)

    def shape(self, split: str) -> tuple[int, ...]:
        """(N, C, h, w) or (N, T, D) of one split; V of those where there are several views."""
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
        """The manifest's text, with its own sha256."""
        fields = {"format": FORMAT, **asdict(self)}
        return json.dumps({OWN_DIGEST: _digest(fields), **fields}, indent=1, ensure_ascii=False)

    def num_bytes(self) -> int:
        """Size of all arrays together."""
        return sum(self.file_bytes(split) for split in self.splits)


def damaged(file: Path, what: str) -> StoreError:
    """The error that names a store's damaged file, and what to do."""
    return StoreError(
        f"The feature store is damaged: {file} {what}. Remove {file.parent}; the features are then "
        "extracted again."
    )


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a complete store.

    Args:
        path: The store's folder.

    Raises:
        StoreError: There is none, or it is damaged or of another format.
    """
    file = path / MANIFEST
    try:
        if not file.is_file():
            raise StoreError(f"There is no complete feature store at {path}: {MANIFEST} is missing.")
        # Names of files need not be UTF-8.
        fields: dict[str, Any] = json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
        if fields["format"] != FORMAT:
            raise ValueError(f"format {fields['format']}, this version reads {FORMAT}")
        if fields.pop(OWN_DIGEST) != _digest(fields):
            raise ValueError(f"its content is not that of its {OWN_DIGEST}")
        return _checked(
            Manifest(
                fingerprint=fields["fingerprint"],
                recipe=fields["recipe"],
                class_names=tuple(fields["class_names"]),
                feature_shape=tuple(fields["feature_shape"]),
                dtype=fields["dtype"],
                splits={
                    name: SplitManifest(tuple(split["paths"]), _labels(split["labels"]), split["views"])
                    for name, split in fields["splits"].items()
                },
                multi_label=fields["multi_label"],
                sha256=fields["sha256"],
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"The feature store's {file} cannot be used ({error}). Remove {path}; the features are then "
            "extracted again."
        ) from error


def _labels(found: list[Any]) -> tuple[Any, ...]:
    """Turn lists of class indices into tuples; single indices stay."""
    return tuple(tuple(label) if isinstance(label, list) else label for label in found)


def _digest(fields: Mapping[str, Any]) -> str:
    """Hash the content; the layout of the text does not count."""
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _checked(manifest: Manifest) -> Manifest:
    """The manifest, if each field is of its kind; another program may have written it, with the right sha256."""

    def number(value: object) -> bool:
        return type(value) is int and 0 < value < LARGEST

    classes = range(len(manifest.class_names))

    def index(value: object) -> bool:
        return type(value) is int and value in classes

    def label(value: object) -> bool:
        return isinstance(value, tuple) and all(map(index, value)) if manifest.multi_label else index(value)

    sound = {
        "fingerprint": isinstance(manifest.fingerprint, str),
        "recipe": isinstance(manifest.recipe, dict),
        "class_names": all(isinstance(name, str) for name in manifest.class_names),
        "feature_shape": len(manifest.feature_shape) in (2, 3) and all(map(number, manifest.feature_shape)),
        "dtype": manifest.dtype in DTYPES,
        "multi_label": isinstance(manifest.multi_label, bool),
        "sha256": manifest.sha256.keys() == manifest.splits.keys(),
    }
    for name, split in manifest.splits.items():
        sound[f"split {name!r}"] = (
            name.isidentifier()  # it becomes a file's name
            and number(split.views)
            and len(split.paths) == len(split.labels)
            and all(isinstance(path, str) for path in split.paths)
            and all(map(label, split.labels))
        )
    wrong = [name for name, holds in sound.items() if not holds]
    if wrong:
        raise ValueError(f"{wrong[0]} is not what it should be")
    return manifest
