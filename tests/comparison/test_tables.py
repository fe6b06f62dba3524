"""The table and the advice, for outcomes whose right answer is plain."""

import numpy as np

from lightning_transfer.comparison.tables import COLUMNS, Outcome, advice, detail_lines, difference_lines, rows


def outcome(accuracy, seconds, total=1000):
    right = np.zeros(total, bool)
    right[: round(accuracy * total)] = True
    return Outcome(accuracy, 0.98, right, 1234, 56.7, {"train": seconds, "test": 5.0}, 512 * 2**20)


def test_a_row_says_what_a_regime_reached():
    (row,) = rows({"fine_tuning": [outcome(0.964, 70.0)]})
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "regime": "fine-tuning",
        "accuracy": "96.4%",
        "95 %": "95.1–97.4",
        "AUROC": "0.980",
        "trains": "1,234",
        "img/s": "57",
        "time": "1:15",
        "memory": "0.5 GiB",
    }
    assert detail_lines({"fine_tuning": [outcome(0.964, 70.0)]}) == ["fine-tuning: train 1:10, test 0:05"]


def test_of_several_seeds_there_are_the_mean_and_each():
    outcomes = {"frozen_backbone": [outcome(0.93, 10.0), outcome(0.95, 20.0)]}
    (row,) = rows(outcomes)
    assert row[:2] == ("frozen backbone", "94.0%")
    assert row[6] == "0:20"
    assert detail_lines(outcomes) == ["frozen backbone: train 0:15, test 0:05; by seed 93.0%, 95.0%"]


def test_the_best_is_chosen_where_it_is_better_than_chance():
    words = advice({"feature_extraction": [outcome(0.90, 5.0)], "fine_tuning": [outcome(0.96, 100.0)]})
    assert words.startswith("Choose fine-tuning: 96.0% of the test images right, against 90.0% with feature extr")
    assert "more than chance explains" in words


def test_the_cheapest_is_chosen_where_the_best_is_no_better_than_chance():
    words = advice(
        {
            "feature_extraction": [outcome(0.943, 5.0)],
            "frozen_backbone": [outcome(0.90, 1.0)],
            "fine_tuning": [outcome(0.945, 100.0)],
        }
    )
    assert words.startswith(
        "Choose feature extraction: fine-tuning has 94.5% right and it 94.3%, which may be chance"
    )
    assert words.endswith("it takes 0:10 in place of 1:45.")


def test_a_best_that_is_also_the_cheapest_may_owe_it_to_chance():
    words = advice({"feature_extraction": [outcome(0.943, 5.0)], "frozen_backbone": [outcome(0.942, 50.0)]})
    assert words.startswith("Choose feature extraction: 94.3%")
    assert "which may be chance (p = 1)" in words


def test_each_pair_and_seed_has_a_line():
    outcomes = {
        "feature_extraction": [outcome(0.9, 1), outcome(0.9, 1)],
        "frozen_backbone": [outcome(0.91, 1)] * 2,
    }
    lines = difference_lines(outcomes)
    assert len(lines) == 2
    assert lines[1].startswith(
        "frozen backbone minus feature extraction, seed 1: +1.0%; 10 images only the first gets right, 0 only the"
    )
