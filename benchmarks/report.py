"""Write RESULTS.md from measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.results import Candidate, Conditions, Measurement, Row, belongs

HEAD = """# What it costs, and what it reaches

Made by `python -m benchmarks --real FOLDER`, where FOLDER holds `data/cats_and_dogs_small` and
`weights/squeezenet1_1-imagenet-features.pth`. A row compares two candidates that ran in turn, A B A B, in one run:
the ratio of their medians, and the lowest and highest ratio of a round. A ratio is how many times as fast the
first is, unless the row says otherwise. Accuracies are on the 1,000 test photographs, where about a point either
way is chance; with random weights, only time is compared. Rows marked † were measured while other processes used
more than 5 % of the processor.
"""


def render(measurements: Sequence[Measurement], groups: Sequence[str]) -> str:
    """Return the whole page.

    Args:
        measurements: The measurements to show.
        groups: The names of all groups, in order; those without a measurement are listed as not run.
    """
    find_callbacks = {group: [m for m in measurements if belongs(m.name, group)] for group in groups}
    ordered = [measurement for group in groups for measurement in find_callbacks[group]]
    parts = [HEAD]
    if any(m.conditions is not None and m.conditions.quick for m in ordered):
        parts.append(
            "**Some were made with `--quick true`, a tenth of the work: they say that it runs, not how fast.**\n"
        )
    parts.append(table(("row", "ratio", "rounds", "target", "met", "accuracy"), _summary(ordered)))
    if absent := [group for group in groups if not find_callbacks[group]]:
        parts.append(f"Not run: {', '.join(absent)}.\n")
    parts += [_section(measurement) for measurement in ordered]
    machines = dict.fromkeys(m.conditions.machine for m in ordered if m.conditions is not None)
    parts += ["## Machine\n", *(f"{machine}\n" for machine in machines)]
    return "\n".join(parts)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown.

    >>> print(table(("a", "b"), [("1", "2")]), end="")
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [titles, *rows]
    return "\n".join(
        ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
        + ["| " + " | ".join(line) + " |" for line in lines[1:]]
        + [""]
    )


def figure(row: Row, value: float) -> str:
    """Return a row's value with its unit.

    >>> figure(Row("", 1.234, 1, 2), 1.234), figure(Row("", -0.4, -1, 1, unit="points"), -0.4)
    ('1.23', '-0.4 points')
    """
    return f"{value:.2f}" if row.unit == "×" else f"{value:+.1f} points"


def percent(accuracy: float | None) -> str:
    """Return a percentage with its sign; a dash for None."""
    return "–" if accuracy is None else f"{accuracy:.1%}".replace("%", " %")


def _summary(measurements: Sequence[Measurement]) -> Iterable[tuple[str, ...]]:
    for measurement in measurements:
        for row in measurement.rows:
            mark = " †" if measurement.conditions is not None and measurement.conditions.disturbed else ""
            mark += " (quick)" if measurement.conditions is not None and measurement.conditions.quick else ""
            yield f"{measurement.title}: {row.what}{mark}", *_cells(row)


def _cells(row: Row) -> tuple[str, ...]:
    spread = "–" if row.low == row.high else f"{figure(row, row.low)} … {figure(row, row.high)}"
    bound = "≤" if row.at_most else "≥"
    target = "" if row.target is None else f"{bound} {figure(row, row.target)}"
    met = {None: "", True: "yes", False: "**no**"}[row.is_met]
    both = "" if row.accuracies is None else " / ".join(map(percent, row.accuracies))
    return figure(row, row.value), spread, target, met, both


def _section(measurement: Measurement) -> str:
    parts = [f"## {measurement.title}\n", f"`{measurement.command}`\n"]
    titles = ("", f"{measurement.unit}, median", "lowest … highest", "test accuracy")
    parts.append(table(titles, map(_candidate, measurement.candidates)))
    parts += [f"{remark}\n" for remark in measurement.remarks]
    if measurement.conditions is not None:
        parts.append(_told(measurement.conditions))
    return "\n".join(parts)


def _candidate(candidate: Candidate) -> tuple[str, ...]:
    values = candidate.values
    among = f" ({', '.join(map(percent, candidate.accuracies))})" if len(candidate.accuracies) > 1 else ""
    return (
        candidate.name,
        f"{median(values):,.2f}",
        f"{min(values):,.2f} … {max(values):,.2f}",
        percent(candidate.accuracy) + among,
    )


def _told(conditions: Conditions) -> str:
    others = "unknown" if conditions.others is None else f"{conditions.others:.0%}".replace("%", " %")
    quick = " `--quick true`." if conditions.quick else ""
    mark = " †" if conditions.disturbed else ""
    rounds = "1 round" if conditions.rounds == 1 else f"{conditions.rounds} rounds"
    return f"{conditions.date}, {rounds}; other processes' share of the processor: {others}{mark}.{quick}\n"
