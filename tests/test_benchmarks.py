"""The arithmetic and the page of `python -m benchmarks`; what it measures is no test's business."""

import doctest
from dataclasses import replace

import pytest
from benchmarks import __main__ as command
from benchmarks import environments, other_load, report, results, settings
from benchmarks.results import Candidate, Conditions, Measurement, Row, growth, points_more, times_as_fast

OURS = Candidate("ours", (10.0, 30.0, 20.0), (0.95, 0.97, 0.93))
THEIRS = Candidate("theirs", (20.0, 10.0, 10.0), (0.94, 0.95, 0.93))
QUIET = Conditions("2026-01-02 03:04 UTC", "a machine", 3, quick=False, others=0.01)


def measurement(name="head/avg", rows=(), **conditions):
    fields = {"title": "A head", "unit": "epochs/s", "command": "python -m benchmarks", "remarks": ("Mind this.",)}
    candidates = (OURS, replace(THEIRS, accuracies=()))
    return Measurement(
        name, candidates=candidates, rows=tuple(rows), conditions=replace(QUIET, **conditions), **fields
    )


def test_the_ratio_is_of_medians_and_its_range_of_rounds():
    row = times_as_fast(OURS, THEIRS, "images/s", target=2.0)
    assert (row.value, row.low, row.high) == (2.0, 0.5, 3.0)
    assert row.is_met
    assert row.what == "ours / theirs"
    assert row.accuracies == pytest.approx((0.95, 0.94))
    assert times_as_fast(OURS, replace(THEIRS, accuracies=()), "images/s").accuracies is None


def test_of_seconds_fewer_are_faster():
    row = times_as_fast(OURS, THEIRS, "s", target=0.9)
    assert (row.value, row.low, row.high) == pytest.approx((0.5, 1 / 3, 2.0))
    assert row.is_met is False


def test_candidates_of_different_rounds_are_not_compared():
    with pytest.raises(ValueError, match="shorter"):
        times_as_fast(OURS, replace(THEIRS, values=(1.0,)), "s")


def test_points_are_paired_by_run():
    row = points_more(OURS, THEIRS, target=-0.5)
    assert (row.value, row.low, row.high) == pytest.approx((1.0, 0.0, 2.0))
    assert (row.unit, row.is_met) == ("points", True)


def test_growth_is_held_from_above():
    row = growth("memory", (100.0, 110.0, 90.0), (110.0, 110.0, 108.0), target=1.05)
    assert (row.value, row.low, row.high) == pytest.approx((1.1, 1.0, 1.2))
    assert row.is_met is False


def test_what_is_kept_comes_back(tmp_path):
    rows = (
        times_as_fast(OURS, THEIRS, "s"),
        points_more(OURS, THEIRS, 0.5),
        Row("memory", 1, 1, 1, 2, at_most=True),
    )
    whole = measurement(rows=rows)
    results.keep(whole, tmp_path)
    results.keep(measurement("cached_cut/vgg16"), tmp_path)
    assert results.kept(tmp_path) == [measurement("cached_cut/vgg16"), whole]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"] * 2


def test_a_group_is_there_with_as_many_rounds_alone(tmp_path):
    results.keep(measurement(), tmp_path)
    assert command.is_there("head", tmp_path, rounds=3)
    assert not command.is_there("head", tmp_path, rounds=5)
    assert not command.is_there("steps", tmp_path, rounds=3)


def test_the_page_tells_what_is_met_disturbed_quick_and_not_run():
    rows = (
        times_as_fast(OURS, THEIRS, "epochs/s", 0.9),
        times_as_fast(THEIRS, OURS, "epochs/s", 0.9),
        Row("x", 1, 1, 1),
    )
    page = report.render([measurement(rows=rows)], ("extraction", "head", "cached_cut/vgg16"))
    assert "| A head: ours / theirs | 2.00 | 0.50 … 3.00 | ≥ 0.90 | yes | 95.0 % / 94.0 % |" in page
    assert "| A head: theirs / ours | 0.50 | 0.33 … 2.00 | ≥ 0.90 | **no** | 94.0 % / 95.0 % |" in page
    assert "| A head: x | 1.00 | – |  |  |  |" in page
    assert "| ours | 20.00 | 10.00 … 30.00 | 95.0 % (95.0 %, 97.0 %, 93.0 %) |" in page
    assert "| theirs | 10.00 | 10.00 … 20.00 | – |" in page
    assert "Not run: extraction, cached_cut/vgg16." in page
    assert "2026-01-02 03:04 UTC, 3 rounds; other processes' share of the processor: 1 %." in page
    assert page.count("a machine") == 1
    assert "Mind this." in page
    assert "--quick" not in page
    assert page.count("†") == 1, "the legend"
    noisy = report.render([measurement(rows=rows, quick=True, others=0.4)], ("head",))
    assert "| A head: x † (quick) |" in noisy
    assert "share of the processor: 40 % †. `--quick true`." in noisy
    assert "Some were made with `--quick true`" in noisy
    assert "Not run" not in noisy


def test_own_work_is_not_others(monkeypatch):
    counts = iter([(0.0, 0.0, 0.0), (10.0, 15.0, 12.0)])
    monkeypatch.setattr(other_load, "_counts", lambda: next(counts))
    monkeypatch.setattr(other_load.os, "cpu_count", lambda: 2)
    assert other_load.OtherLoad().share() == pytest.approx(3 / 20)


def test_the_answer_is_the_last_line():
    said = environments.answer(["sh", "-c", "echo chatter; echo '{\"seconds\": 1.5}'"])
    assert said == {"seconds": 1.5}


def test_an_unknown_group_is_named(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="there is no cached; wanted some of extraction"):
        command.main(only=["cached"], out=str(tmp_path / "RESULTS.md"))


def test_a_page_without_measurements(tmp_path, capsys):
    command.main(only=[], out=str(tmp_path / "RESULTS.md"))
    assert "Not run: extraction, decoding, head, steps, epochs" in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize("module", [report, results, settings])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
