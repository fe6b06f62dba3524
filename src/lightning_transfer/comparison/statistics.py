"""How sure a share is, and whether two classifiers differ by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest


def wilson(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, which stays within 0 and 1 and is right for shares near them.

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
        only_one: Images that the first alone has right.
        only_other: Images that the second alone has right.
        difference: Accuracy of the first less that of the second.
        p_value: How often chance alone would make a difference this large: McNemar's test, exact.
    """

    only_one: int
    only_other: int
    difference: float
    p_value: float


def mcnemar(one: ArrayLike, other: ArrayLike) -> PairedDifference:
    """Compares two classifiers by the images that just one of them has right.

    See McNemar, Note on the sampling error of the difference between correlated proportions, 1947.

    Args:
        one: (N,) bool, whether the first has each image right.
        other: The same of the second, in the same order.

    >>> mcnemar([True] * 9 + [False], [True, False] * 5)
    PairedDifference(only_one=4, only_other=0, difference=0.4, p_value=0.125)
    """
    first, second = np.asarray(one, bool), np.asarray(other, bool)
    only_one, only_other = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_one + only_other
    p_value = float(binomtest(only_one, apart).pvalue) if apart else 1.0
    return PairedDifference(only_one, only_other, (only_one - only_other) / len(first), p_value)
