"""Confidence interval of an accuracy, and a test of whether two classifiers differ by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

SIGNIFICANT = 0.05


def wilson(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's interval of a proportion, which stays within 0 and 1.

    See Wilson, Probable inference, the law of succession, and statistical inference, 1927.

    >>> low, high = wilson(942, 1000)
    >>> round(low, 3), round(high, 3)
    (0.926, 0.955)
    """
    interval = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class PairedDifference:
    """Two classifiers on the same images.

    Attributes:
        only_one: Images that only the first gets right.
        only_other: Images that only the second gets right.
        difference: Accuracy of the first minus accuracy of the second.
        p_value: Probability of a difference at least this large by chance: McNemar's exact test.
    """

    only_one: int
    only_other: int
    difference: float
    p_value: float


def mcnemar(one: ArrayLike, other: ArrayLike) -> PairedDifference:
    """Compare two classifiers by the images that only one of them gets right.

    See McNemar, Note on the sampling error of the difference between correlated proportions, 1947.

    Args:
        one: (N,) bool, whether the first gets each image right.
        other: The same for the second, in the same order.

    >>> mcnemar([True] * 9 + [False], [True, False] * 5)
    PairedDifference(only_one=4, only_other=0, difference=0.4, p_value=0.125)
    """
    first, second = np.asarray(one, bool), np.asarray(other, bool)
    only_one, only_other = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_one + only_other
    p_value = float(binomtest(only_one, discordant).pvalue) if discordant else 1.0
    return PairedDifference(only_one, only_other, (only_one - only_other) / len(first), p_value)
