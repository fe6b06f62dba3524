"""Mixup and cutmix of a training image with another one, the same again for the same (seed, epoch, sample).

Shapes: H W image, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from lightning_transfer.data.augmentation import Augmentation, seeded

PARTNER, MIXED = 1, 2  # what else is drawn for a sample, beside what changes its image


def partner(num_samples: int, seed: Sequence[int]) -> int:
    """Draw the image that one is mixed with: any but itself, unless there is no other.

    Args:
        num_samples: N.
        seed: Numbers from 0 on, of which the last one is the image's index.

    >>> partner(5, [0, 3, 2]) in (0, 1, 3, 4), partner(1, [0, 3, 0])
    (True, 0)
    """
    index = seed[-1]
    if num_samples == 1:
        return index
    distance = int(np.random.default_rng([*seed, PARTNER]).integers(1, num_samples))
    return (index + distance) % num_samples


def mixed(
    augmentation: Augmentation, images: Tensor, labels: Tensor, seed: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Mix an image with its partner, and their labels by the same shares.

    Mixup adds the two up (Zhang et al., mixup: Beyond Empirical Risk Minimization, 2017), cutmix pastes a
    rectangle (Yun et al., CutMix, 2019). Where both are on, one of them is drawn.

    Args:
        augmentation: With `mixes`.
        images: (2, 3, H, W) uint8, the image and its partner.
        labels: (2, K) float32, probabilities.
        seed: Numbers from 0 on, which alone decide what happens.

    Returns:
        The image, (3, H, W) uint8, and its label, (K,) float32 probabilities.
    """
    with seeded([*seed, MIXED]):
        # In float, since mixup multiplies; torchvision mixes each of a batch with the one before.
        both, shares = _mixer(augmentation.mixup, augmentation.cutmix)(images.float(), labels)
    return both[0].round().to(torch.uint8), shares[0]


@lru_cache
def _mixer(mixup: float, cutmix: float) -> v2.Transform:
    mixers = [kind(alpha=alpha) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha]
    return mixers[0] if len(mixers) == 1 else v2.RandomChoice(mixers)
