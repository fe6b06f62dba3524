"""Which images a data set has, and their labels.

Shapes: K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_transfer.errors import DataError
from lightning_transfer.utils.arguments import path_text

SPLITS = ("train", "validation", "test")
# A class, or all the classes of an image that may have several or none.
Label = int | tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """The images of one split.

    Attributes:
        paths: N paths, relative to the index's root.
        labels: For each image its class as an index; in a multi-label index, a tuple of such indices.
    """

    paths: tuple[str, ...]
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        if type(self.paths) is not tuple or not set(map(type, self.paths)) <= {str}:
            object.__setattr__(self, "paths", tuple(path_text("path", path) for path in self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, positions: Iterable[int]) -> Samples:
        """The images at some positions, in that order."""
        positions = list(positions)
        return Samples(
            tuple(map(self.paths.__getitem__, positions)), tuple(map(self.labels.__getitem__, positions))
        )

    def by_label(self) -> dict[Label, NDArray[np.int64]]:
        """Positions of the images of each label, labels in order."""
        labels = sorted(set(self.labels))
        number = {label: i for i, label in enumerate(labels)}
        numbers = np.fromiter(map(number.__getitem__, self.labels), np.int64, len(self))
        starts = np.cumsum(np.bincount(numbers, minlength=1))[:-1]
        return dict(zip(labels, np.split(np.argsort(numbers, kind="stable"), starts), strict=False))

    def first(self, count: int) -> Samples:
        """The first `count` images, taking one of each label in turn so that each gets its share.

        >>> Samples(("a1", "a2", "b1", "b2"), (0, 0, 1, 1)).first(2).paths
        ('a1', 'b1')
        """
        groups = list(self.by_label().values())
        turns = np.concatenate([np.arange(len(group)) for group in groups])
        in_turn = np.concatenate(groups)[np.argsort(turns, kind="stable")]
        return self.at(np.sort(in_turn[:count]).tolist())


@dataclass(frozen=True)
class ImageIndex:
    """Paths, labels, class names and splits of a data set.

    Attributes:
        root: The folder that the paths start from.
        class_names: K names; a label is an index into them, the same in every split.
        splits: Split name to its images: "train" and "validation", and "test" where there is one.
        left_out: Path and reason of each file that is not used.
        notes: What was decided about the layout, a line each.
        multi_label: Whether an image may have several labels, or none.
        warnings: What may spoil a result, a line each.
        made_here: The splits that were made here, not by those who made the data set.
        bit_depth: How many bits of 16-bit images are used; None where there are none.

    Raises:
        DataError: A split is missing, empty or unknown, or a label is not a class.
    """

    root: Path
    class_names: tuple[str, ...]
    splits: Mapping[str, Samples]
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    multi_label: bool = False
    warnings: tuple[str, ...] = ()
    made_here: frozenset[str] = frozenset()
    bit_depth: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(path_text("root", self.root)))
        if not {"train", "validation"} <= self.splits.keys() <= set(SPLITS):
            raise DataError(
                f"The index of {self.root} has the splits {', '.join(self.splits) or '(none)'}: "
                "wanted train and validation, and test or not."
            )
        for split, samples in self.splits.items():
            self._check(split, samples)

    def _check(self, split: str, samples: Samples) -> None:
        where = f"The {split} split of {self.root}"
        if len(samples.paths) != len(samples.labels):
            raise DataError(f"{where} has {len(samples.paths):,} paths and {len(samples.labels):,} labels.")
        if not samples.paths:
            raise DataError(f"{where} has no images: add some, or leave the split out.")
        wanted = "a tuple of class indices (multi_label=True)" if self.multi_label else "a class index"
        if self._all_known(samples.labels):
            return
        for path, label in zip(samples.paths, samples.labels, strict=True):
            if isinstance(label, tuple) != self.multi_label or not self._known(label):
                raise DataError(
                    f"{where}: {path} has the label {label!r}: wanted {wanted} below {self.num_classes}."
                )

    def _all_known(self, labels: tuple[Label, ...]) -> bool:
        """Whether all labels are whole numbers of classes; quick, and False where it takes a closer look."""
        return (
            not self.multi_label and set(map(type, labels)) == {int} and set(labels) <= {*range(self.num_classes)}
        )

    def _known(self, label: Label) -> bool:
        classes = label if isinstance(label, tuple) else (label,)
        return all(isinstance(i, int) and 0 <= i < self.num_classes for i in classes)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all images, split by split."""
        return tuple(chain(*(samples.paths for samples in self.splits.values())))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def class_counts(self, split: str) -> tuple[int, ...]:
        """Count the images of each class of a split, K numbers; one with two labels counts for both."""
        counts = [0] * self.num_classes
        for label in self.splits[split].labels:
            for i in label if isinstance(label, tuple) else (label,):
                counts[i] += 1
        return tuple(counts)
