"""Results of a probe: a table, and a sentence that says how much of a backbone to keep.

Shapes: C channels, h w feature map, T tokens, D features, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_transfer.comparison.statistics import SIGNIFICANT, mcnemar, wilson
from lightning_transfer.models.backbone import FeatureShape
from lightning_transfer.models.token_maps import in_words

COLUMNS = ("stage", "output", "parameters", "compute", "accuracy", "95 %")


@dataclass(frozen=True)
class ProbedStage:
    """The result of a backbone that ends with this stage.

    Attributes:
        stage: Its name.
        shape: (C, h, w) of its output, or (T, D) of tokens.
        parameters: Of the backbone up to here, this stage's among them.
        operations: Additions and multiplications for one image, likewise.
        right: (N,) bool, whether the classifier on it has each validation image right.
    """

    stage: str
    shape: FeatureShape
    parameters: int
    operations: int
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """Accuracy on the validation images."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(int(self.right.sum()), len(self.right))


def rows(stages: Sequence[ProbedStage]) -> list[tuple[str, ...]]:
    """Return a row for each stage, for `COLUMNS`; compute is relative to the whole backbone's."""
    return [
        (
            stage.stage,
            in_words(stage.shape),
            f"{stage.parameters:,}",
            f"{stage.operations / stages[-1].operations:.0%}",
            f"{stage.accuracy:.1%}",
            "{:.1f}–{:.1f}".format(*(100 * bound for bound in stage.interval)),
        )
        for stage in stages
    ]


def chosen_stage(stages: Sequence[ProbedStage]) -> ProbedStage:
    """Return the earliest stage that no other beats by more than chance.

    Args:
        stages: In the backbone's order, on the same images.
    """
    return next(one for one in stages if not any(_beats(other, one) for other in stages))


def advice(stages: Sequence[ProbedStage]) -> str:
    """Recommend how much of the backbone to keep, and say why."""
    choice, last = chosen_stage(stages), stages[-1]
    best = max(stages, key=lambda stage: stage.accuracy)
    reached = f"{choice.accuracy:.1%} of the validation images right"
    if choice is last:
        second = max(stages[:-1], key=lambda stage: stage.accuracy)
        return (
            f"Keep all of the backbone: {reached}, against {second.accuracy:.1%} with {second.stage}, the best "
            f"before it, more than chance explains ({_p_value(last, second)})."
        )
    saved = 1 - choice.parameters / last.parameters, 1 - choice.operations / last.operations
    reason = f"none has more, and all of the backbone {last.accuracy:.1%}"
    if choice is not best:
        reason = f"{best.stage} has {best.accuracy:.1%}, which may be chance ({_p_value(best, choice)})"
    return (
        f"Keep the backbone until {choice.stage} (--model.last_stage {choice.stage}): {reached}; {reason}. It "
        f"saves {saved[0]:.0%} of the parameters and {saved[1]:.0%} of the compute."
    )


def _beats(one: ProbedStage, other: ProbedStage) -> bool:
    found = mcnemar(one.right, other.right)
    return found.difference > 0 and found.p_value < SIGNIFICANT


def _p_value(one: ProbedStage, other: ProbedStage) -> str:
    return f"p = {mcnemar(one.right, other.right).p_value:.2g}"
