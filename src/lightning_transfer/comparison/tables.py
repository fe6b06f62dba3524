"""Regimes side by side: a table, the differences, and a sentence that says which one to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from lightning_transfer.comparison.statistics import SIGNIFICANT, PairedDifference, mcnemar, wilson

# Narrow enough for a terminal of 80 columns.
COLUMNS = ("regime", "accuracy", "95 %", "AUROC", "trains", "img/s", "time", "memory")


@dataclass(frozen=True)
class Outcome:
    """Result of one regime with one seed.

    Attributes:
        accuracy: On the test images.
        auroc: Mean over the classes.
        right: (N,) bool, in the order of the test images.
        trainable_parameters: In the last epoch.
        images_per_second: In training.
        seconds: By phase: "extract", "train", "test".
        peak_memory: Of the process, in bytes.
    """

    accuracy: float
    auroc: float
    right: NDArray[np.bool_]
    trainable_parameters: int
    images_per_second: float
    seconds: Mapping[str, float]
    peak_memory: int


Outcomes = Mapping[str, Sequence[Outcome]]  # by regime, one a seed


def in_words(regime: str) -> str:
    """Return a regime's name as people write it.

    >>> in_words("feature_extraction"), in_words("fine_tuning")
    ('feature extraction', 'fine-tuning')
    """
    return "fine-tuning" if regime == "fine_tuning" else regime.replace("_", " ")


def rows(outcomes: Outcomes) -> list[tuple[str, ...]]:
    """Return a row for each regime, for `COLUMNS`; means over the seeds."""
    table: list[tuple[str, ...]] = []
    for regime, seeds in outcomes.items():
        total = len(seeds[0].right)
        accuracy = mean(outcome.accuracy for outcome in seeds)
        low, high = wilson(round(accuracy * total), total)
        table.append(
            (
                in_words(regime),
                f"{accuracy:.1%}",
                f"{100 * low:.1f}–{100 * high:.1f}",
                f"{mean(outcome.auroc for outcome in seeds):.3f}",
                f"{seeds[0].trainable_parameters:,}",
                f"{mean(outcome.images_per_second for outcome in seeds):,.0f}",
                clock(mean(sum(outcome.seconds.values()) for outcome in seeds)),
                f"{max(outcome.peak_memory for outcome in seeds) / 2**30:.1f} GiB",
            )
        )
    return table


def detail_lines(outcomes: Outcomes) -> list[str]:
    """Return a line for each regime: the time of each phase and, with several seeds, each one's accuracy."""
    lines = []
    for regime, seeds in outcomes.items():
        phases = [f"{phase} {clock(mean(o.seconds[phase] for o in seeds))}" for phase in seeds[0].seconds]
        among = [f"{outcome.accuracy:.1%}" for outcome in seeds] if len(seeds) > 1 else []
        accuracies = f"; by seed {', '.join(among)}" if among else ""
        lines.append(f"{in_words(regime)}: {', '.join(phases)}{accuracies}")
    return lines


def differences(outcomes: Outcomes) -> dict[tuple[str, str], list[PairedDifference]]:
    """Compare each pair of regimes, the later one first, seed by seed."""
    return {
        (later, earlier): [mcnemar(one.right, other.right) for one, other in _paired(outcomes, later, earlier)]
        for earlier, later in combinations(outcomes, 2)
    }


def difference_lines(outcomes: Outcomes) -> list[str]:
    """Return a line for each pair and seed."""
    lines = []
    for (later, earlier), seeds in differences(outcomes).items():
        for number, found in enumerate(seeds):
            seed = f", seed {number}" if len(seeds) > 1 else ""
            lines.append(
                f"{in_words(later)} minus {in_words(earlier)}{seed}: {found.difference:+.1%}; {found.only_one:,} "
                f"images only the first gets right, {found.only_other:,} only the second; p = {found.p_value:.2g}"
            )
    return lines


def advice(outcomes: Outcomes) -> str:
    """Recommend the cheapest regime that none beats by more than chance, and say why.

    With several seeds the median of their p-values decides.
    """
    accuracies = {regime: mean(outcome.accuracy for outcome in seeds) for regime, seeds in outcomes.items()}
    times = {r: mean(sum(outcome.seconds.values()) for outcome in seeds) for r, seeds in outcomes.items()}
    best = max(accuracies, key=lambda regime: accuracies[regime])
    p_values = {regime: _p_value(outcomes, best, regime) for regime in outcomes if regime != best}
    as_good = [best, *(regime for regime, p in p_values.items() if p >= SIGNIFICANT)]
    choice = min(as_good, key=lambda regime: times[regime])
    if choice == best:
        second = max(p_values, key=lambda regime: accuracies[regime])
        chance = "more than chance explains" if p_values[second] < SIGNIFICANT else "which may be chance"
        return (
            f"Choose {in_words(best)}: {accuracies[best]:.1%} of the test images right, against "
            f"{accuracies[second]:.1%} with {in_words(second)}, {chance} (p = {p_values[second]:.2g})."
        )
    return (
        f"Choose {in_words(choice)}: {in_words(best)} has {accuracies[best]:.1%} right and it "
        f"{accuracies[choice]:.1%}, which may be chance (p = {p_values[choice]:.2g}), and it takes "
        f"{clock(times[choice])} in place of {clock(times[best])}."
    )


def clock(seconds: float) -> str:
    """Format seconds as m:ss.

    >>> clock(75.4)
    '1:15'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _paired(outcomes: Outcomes, one: str, other: str) -> list[tuple[Outcome, Outcome]]:
    return list(zip(outcomes[one], outcomes[other], strict=True))


def _p_value(outcomes: Outcomes, one: str, other: str) -> float:
    return float(np.median([mcnemar(a.right, b.right).p_value for a, b in _paired(outcomes, one, other)]))
