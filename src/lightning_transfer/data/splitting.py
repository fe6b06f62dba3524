"""Split images into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lightning_transfer.data.index import SPLITS, ImageIndex, Label, Samples
from lightning_transfer.errors import DataError


def split_images(
    root: Path,
    class_names: tuple[str, ...],
    samples: Samples,
    shares: Sequence[float],
    seed: int,
    multi_label: bool = False,
) -> ImageIndex:
    """Split images at random, the same way for the same seed.

    Each class is split by itself, in an order that depends on the seed and the class's name alone, so a class that
    is added later leaves the others' split as it was. Images with several labels are shuffled all together.

    Args:
        root: The folder that the paths start from.
        class_names: K names.
        samples: All images.
        shares: Of train, validation and test; they sum to 1.
        seed: Not negative.
        multi_label: Whether labels are tuples.

    Raises:
        DataError: The shares or the seed are out of range, or there are too few images of a class.
    """
    valid = len(shares) == len(SPLITS) and min(shares[:2]) > 0 and shares[2] >= 0 and abs(sum(shares) - 1) < 1e-6
    if not valid:
        raise DataError(
            f"split={tuple(shares)}: wanted three shares (train, validation, test) that sum to 1, the first two "
            "above 0."
        )
    if seed < 0:
        raise DataError(f"split_seed={seed}: wanted a whole number, 0 or more.")
    positions: dict[str, list[int]] = {split: [] for split in SPLITS}
    groups: dict[Label, list[int]] = {(): list(range(len(samples)))} if multi_label else samples.by_label()
    for label, group in groups.items():
        name = class_names[label] if isinstance(label, int) else ""
        order = np.random.default_rng([seed, *name.encode()]).permutation(len(group))
        bounds = [0, *(round(share * len(group)) for share in np.cumsum(shares))]
        for split, share, start, stop in zip(SPLITS, shares, bounds, bounds[1:], strict=False):
            if share > 0 and start == stop:
                raise DataError(
                    f"{root / name} holds {len(group):,} images, too few to give {split} its share of {share:.0%}"
                    ": add images, or change split."
                )
            positions[split] += (group[i] for i in order[start:stop])
    splits = {split: samples.at(sorted(chosen)) for split, chosen in positions.items() if chosen}
    return ImageIndex(root, class_names, splits, multi_label=multi_label)
