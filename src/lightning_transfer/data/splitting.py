"""Split images into train, validation and test.

Shapes: K classes, N samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_transfer.data.index import SPLITS, ImageIndex, Label, Samples
from lightning_transfer.errors import DataError
from lightning_transfer.utils.arguments import number, shown, whole_number

SHARES = (0.7, 0.15, 0.15)


def index_of(
    root: Path,
    class_names: tuple[str, ...],
    splits: Mapping[str, Samples],
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    multi_label: bool = False,
) -> ImageIndex:
    """Make an index of the splits that there are, and make those that are missing.

    Images without a split are split; a missing validation split is held out of train. A missing test split stays
    missing; see `with_test`.

    Args:
        root: The folder that the paths start from.
        class_names: K names.
        splits: Split name to its images; "" for images that are in no split.
        shares: Of train, validation and test; they sum to 1.
        seed: Which images go where; not negative.
        multi_label: Whether labels are tuples.

    Raises:
        DataError: The shares or the seed are out of range, or there are no images to train on.
    """
    shares = checked_shares(shares)
    whole_number("split_seed", seed)
    if "" in splits:
        made = split_images(class_names, splits[""], shares, seed, multi_label)
        index = ImageIndex(root, class_names, made, multi_label=multi_label, made_here=frozenset(made))
        return replace(index, warnings=_few(index, splits[""], shares))
    if "train" not in splits:
        raise DataError(f"{root} has {', '.join(splits) or 'no splits'}, but no images to train on.")
    if "validation" in splits:
        return ImageIndex(root, class_names, _ordered(splits), multi_label=multi_label)
    train, validation = _held_out(class_names, splits["train"], shares, seed, multi_label)
    index = ImageIndex(
        root,
        class_names,
        _ordered({**splits, "train": train, "validation": validation}),
        multi_label=multi_label,
        made_here=frozenset({"train", "validation"}),
        notes=(f"There are no validation images: {len(validation):,} of {len(splits['train']):,} are held out.",),
    )
    return replace(index, warnings=_few(index, splits["train"], shares[:2]))


def checked_shares(shares: Iterable[float]) -> tuple[float, float, float]:
    """Return the shares of train, validation and test.

    Raises:
        DataError: They are not three numbers that sum to 1, the first two above 0.
    """
    listed: tuple[Any, ...] = tuple(shares) if isinstance(shares, Iterable) else (shares,)
    try:
        train, validation, test = (number("split", share, least=0) for share in listed)
        fits = min(train, validation) > 0 and abs(train + validation + test - 1) < 1e-6
    except (DataError, ValueError):  # no number, or not three
        fits = False
    if not fits:
        raise DataError(
            f"split={shown(shares)}: wanted three shares (train, validation, test) that sum to 1, the first two "
            "above 0."
        )
    return train, validation, test


def with_test(index: ImageIndex, shares: Sequence[float] = SHARES, seed: int = 0) -> ImageIndex:
    """Give an index a test split, where it has none: its validation split, and hold another out of train."""
    if "test" in index.splits:
        return index
    train, held_out = _held_out(index.class_names, index.splits["train"], shares, seed, index.multi_label)
    note = (
        f"There are no test images: the {len(index.splits['validation']):,} of validation are tested on, and "
        f"{len(held_out):,} of {len(index.splits['train']):,} are held out of train to validate."
    )
    splits = {"train": train, "validation": held_out, "test": index.splits["validation"]}
    return replace(
        index, splits=splits, notes=(*index.notes, note), made_here=index.made_here | {"train", "validation"}
    )


def split_images(
    class_names: tuple[str, ...], samples: Samples, shares: Sequence[float], seed: int, multi_label: bool = False
) -> dict[str, Samples]:
    """Split images at random, the same way for the same seed.

    Each class is split by itself, in an order that depends on the seed and the class's name alone, so a class that
    is added later leaves the others' split as it was. Images with several labels are shuffled all together. Where
    a class has too few images for its shares, each split gets one as long as there are any, train first.

    Args:
        class_names: K names.
        samples: All images.
        shares: Of train, validation and test; a split without a share is left out.
        seed: Not negative.
        multi_label: Whether labels are tuples.
    """
    positions: dict[str, list[NDArray[np.int64]]] = {split: [] for split in SPLITS}
    groups: dict[Label, NDArray[np.int64]] = {(): np.arange(len(samples))} if multi_label else samples.by_label()
    for label, group in groups.items():
        name = class_names[label] if isinstance(label, int) else ""
        order = np.random.default_rng([seed, *name.encode()]).permutation(len(group))
        start = 0
        for split, count in zip(SPLITS, _counts(len(group), shares), strict=False):
            positions[split].append(group[order[start : start + count]])
            start += count
    chosen = {split: np.sort(np.concatenate(found)) for split, found in positions.items() if found}
    return {split: samples.at(found.tolist()) for split, found in chosen.items() if len(found)}


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """How many of `total` images each split gets.

    >>> [_counts(total, (0.7, 0.15, 0.15)) for total in (1, 2, 3, 4, 20)]
    [[1, 0, 0], [1, 1, 0], [1, 1, 1], [2, 1, 1], [14, 3, 3]]
    """
    bounds = [0, *(round(share * total) for share in np.cumsum(shares))]
    counts = [stop - start for start, stop in pairwise(bounds)]
    for i, share in enumerate(shares):
        if share and not counts[i] and max(counts) > 1:
            counts[counts.index(max(counts))] -= 1
            counts[i] += 1
    if total and not counts[0]:  # what there is goes to train first
        counts[counts.index(1)] -= 1
        counts[0] += 1
    return counts


def _held_out(
    class_names: tuple[str, ...], train: Samples, shares: Sequence[float], seed: int, multi_label: bool
) -> tuple[Samples, Samples]:
    """Split train into what stays and what is held out to validate."""
    kept = shares[0] / (shares[0] + shares[1])
    made = split_images(class_names, train, (kept, 1 - kept), seed, multi_label)
    if "validation" not in made:
        raise DataError("No class has two images or more: none can be held out to validate.")
    return made["train"], made["validation"]


def _few(index: ImageIndex, samples: Samples, shares: Sequence[float]) -> tuple[str, ...]:
    """The warning that classes have fewer images than there are splits."""
    wanted = sum(share > 0 for share in shares)
    few = [
        (index.class_names[label], len(group))
        for label, group in samples.by_label().items()
        if isinstance(label, int) and len(group) < wanted
    ]
    if not few:
        return ()
    listed = ", ".join(f"{name} ({count:,})" for name, count in few)
    return (f"Too few images for all splits, those there are train: {listed}.",)


def _ordered(splits: Mapping[str, Samples]) -> dict[str, Samples]:
    return {split: splits[split] for split in SPLITS if split in splits}
