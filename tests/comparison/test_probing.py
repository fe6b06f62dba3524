"""The table and the advice, for stages whose right answer is plain."""

import numpy as np
import pytest

from lightning_transfer.comparison.probing import COLUMNS, ProbedStage, advice, chosen_stage, rows
from lightning_transfer.comparison.statistics import wilson


def stages_with(*accuracies, total=1000):
    """Stages of one parameter and ten operations each; the images that are right are the first ones."""
    return [
        ProbedStage(f"block{n}", (8 * n, 4, 5), n, 10 * n, np.arange(total) < round(accuracy * total))
        for n, accuracy in enumerate(accuracies, start=1)
    ]


def test_a_row_says_what_a_stage_reaches_and_costs():
    table = rows(stages_with(0.6, 0.9, 0.964, 0.95))
    assert [dict(zip(COLUMNS, row, strict=True))["compute"] for row in table] == ["25%", "50%", "75%", "100%"]
    assert dict(zip(COLUMNS, table[2], strict=True)) == {
        "stage": "block3",
        "output": "24×4×5",
        "parameters": "3",
        "compute": "75%",
        "accuracy": "96.4%",
        "95 %": "95.1–97.4",
    }


def test_the_interval_is_wilsons():
    (stage,) = stages_with(0.964)
    assert stage.interval == wilson(964, 1000)
    assert stage.accuracy == pytest.approx(0.964)


@pytest.mark.parametrize(
    ("accuracies", "choice"),
    [
        ((0.6, 0.8, 0.95), "block3"),
        # Of nested sets of right images, 5 apart are chance (p = 0.06), and 6 are not (p = 0.03).
        ((0.6, 0.945, 0.95), "block2"),
        ((0.6, 0.944, 0.95), "block3"),
        ((0.6, 0.95, 0.8), "block2"),
        ((0.5, 0.5, 0.5), "block1"),
        # The first is as good as the second, the second as the third, but the first not as the third.
        ((0.940, 0.945, 0.950), "block2"),
    ],
)
def test_the_earliest_stage_is_chosen_that_none_beats(accuracies, choice):
    assert chosen_stage(stages_with(*accuracies)).stage == choice


def test_the_advice_is_all_where_the_last_stage_is_best():
    assert advice(stages_with(0.6, 0.8, 0.95)) == (
        "Keep all of the backbone: 95.0% of the validation images right, against 80.0% with block2, the best "
        "before it, more than chance explains (p = 1.4e-45)."
    )


def test_the_advice_names_the_better_stage_and_what_is_saved():
    assert advice(stages_with(0.6, 0.945, 0.95, 0.8)) == (
        "Keep the backbone until block2 (--model.last_stage block2): 94.5% of the validation images right; block3 "
        "has 95.0%, which may be chance (p = 0.062). It saves 50% of the parameters and 50% of the compute."
    )


def test_the_advice_names_all_of_the_backbone_where_it_is_worse():
    assert advice(stages_with(0.6, 0.7, 0.95, 0.8)) == (
        "Keep the backbone until block3 (--model.last_stage block3): 95.0% of the validation images right; none "
        "has more, and all of the backbone 80.0%. It saves 25% of the parameters and 25% of the compute."
    )
