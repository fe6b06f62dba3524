"""Measurements: candidates side by side, and the rows that compare two of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

Unit = Literal["×", "points"]


@dataclass(frozen=True)
class Candidate:
    """One of the candidates that ran in turn.

    Attributes:
        name: Library and precision.
        values: Speeds or seconds, one per round.
        accuracies: Accuracy on the test images, one per run; empty with random weights.
    """

    name: str
    values: tuple[float, ...]
    accuracies: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy; None if there is none."""
        return mean(self.accuracies) if self.accuracies else None


@dataclass(frozen=True)
class Row:
    """One figure to quote.

    Attributes:
        what: What is compared with what.
        value: The ratio, or the difference in points.
        low: The lowest of the rounds.
        high: The highest of the rounds.
        target: The value to reach; None if there is no target.
        at_most: Whether the target is an upper bound.
        unit: "×" for a ratio, "points" for a difference between accuracies.
        accuracies: Of the two that are compared, if both have one.
    """

    what: str
    value: float
    low: float
    high: float
    target: float | None = None
    at_most: bool = False
    unit: Unit = "×"
    accuracies: tuple[float, float] | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether it reaches its target; None without a target.

        >>> Row("store / bare backbone", 0.95, 0.9, 1.0, target=0.9).is_met
        True
        """
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measurement.

    Attributes:
        date: Day and time of its end.
        machine: Processor, cores, memory and versions.
        rounds: How often each candidate ran.
        quick: Whether with a tenth of the work, which shows that it runs, not how fast.
        others: Share of the processor's time that other processes used meanwhile; None if it was not counted.
    """

    date: str
    machine: str
    rounds: int
    quick: bool
    others: float | None

    @property
    def disturbed(self) -> bool:
        """Whether other processes used so much that the figures may differ on a quiet machine."""
        return self.others is not None and self.others > 0.05


@dataclass(frozen=True)
class Measurement:
    """Candidates that ran side by side.

    Attributes:
        name: The group's name, then its own: "extraction/vgg16".
        title: What was done, and on what.
        unit: Of the candidates' values: "images/s", "s".
        candidates: In the order in which they ran.
        rows: The figures to quote.
        command: The command that repeats it.
        remarks: Notes for the reader.
        conditions: Filled in by `python -m benchmarks`.
    """

    name: str
    title: str
    unit: str
    candidates: tuple[Candidate, ...]
    rows: tuple[Row, ...]
    command: str
    remarks: tuple[str, ...] = ()
    conditions: Conditions | None = None


def times_as_fast(
    ours: Candidate, other: Candidate, unit: str, target: float | None = None, what: str | None = None
) -> Row:
    """Return how many times as fast one is as another: ratio of medians, and range of the rounds' ratios.

    Args:
        ours: The first.
        other: The second, from the same rounds.
        unit: Of their values; with seconds, less is faster.
        target: The lower bound to reach.
        what: The row's name; "ours / other" by default.
    """
    pairs = list(zip(ours.values, other.values, strict=True))
    ratios = [b / a if unit == "s" else a / b for a, b in pairs]
    one, two = median(ours.values), median(other.values)
    accuracies = None if ours.accuracy is None or other.accuracy is None else (ours.accuracy, other.accuracy)
    return Row(
        what or f"{ours.name} / {other.name}",
        two / one if unit == "s" else one / two,
        min(ratios),
        max(ratios),
        target,
        accuracies=accuracies,
    )


def points_more(ours: Candidate, other: Candidate, target: float | None = None, what: str | None = None) -> Row:
    """Return by how many points of accuracy one is better: the mean over the runs, and their range."""
    differences = [100 * (a - b) for a, b in zip(ours.accuracies, other.accuracies, strict=True)]
    return Row(
        what or f"accuracy: {ours.name} less {other.name}",
        mean(differences),
        min(differences),
        max(differences),
        target,
        unit="points",
        accuracies=(mean(ours.accuracies), mean(other.accuracies)),
    )


def growth(what: str, small: tuple[float, ...], large: tuple[float, ...], target: float | None = None) -> Row:
    """Return how much more the large one takes: ratio of medians, and range of the rounds' ratios."""
    ratios = [b / a for a, b in zip(small, large, strict=True)]
    return Row(what, median(large) / median(small), min(ratios), max(ratios), target, at_most=True)


def belongs(name: str, group: str) -> bool:
    """Return whether a name is a group's or within it.

    >>> belongs("cached_cut/vgg16", "cached_cut"), belongs("cached_cut/vgg16", "cached")
    (True, False)
    """
    return f"{name}/".startswith(f"{group}/")


def keep(measurement: Measurement, folder: Path) -> None:
    """Save a measurement next to the others, completely or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{measurement.name.replace('/', '.')}.json"
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(asdict(measurement), indent=2))
    beside.replace(path)


def kept(folder: Path) -> list[Measurement]:
    """Return the measurements of a folder, sorted by name."""
    return [from_json(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def from_json(fields: dict[str, Any]) -> Measurement:
    """Make a measurement from the plain values that `keep` writes."""
    conditions = fields["conditions"]
    return Measurement(
        **{
            **fields,
            "candidates": tuple(
                Candidate(c["name"], tuple(c["values"]), tuple(c["accuracies"])) for c in fields["candidates"]
            ),
            "rows": tuple(
                Row(**{**row, "accuracies": row["accuracies"] and tuple(row["accuracies"])})
                for row in fields["rows"]
            ),
            "remarks": tuple(fields["remarks"]),
            "conditions": conditions and Conditions(**conditions),
        }
    )
