"""What was measured: candidates side by side, and the rows that compare two of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

Unit = Literal["×", "points"]


@dataclass(frozen=True)
class Candidate:
    """One of those that ran in turn.

    Attributes:
        name: Whose, and in which precision.
        values: Speeds, or seconds, a round each.
        accuracies: Shares of the test images that it has right, a run each; none where weights are random.
    """

    name: str
    values: tuple[float, ...]
    accuracies: tuple[float, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """The mean; None where there is none."""
        return mean(self.accuracies) if self.accuracies else None


@dataclass(frozen=True)
class Row:
    """One figure that is worth quoting.

    Attributes:
        what: What is compared with what.
        value: The ratio, or the difference in points.
        low: The lowest of the rounds.
        high: The highest of the rounds.
        target: What it is held to; None where it is only told.
        at_most: Whether the target is an upper bound.
        unit: "×" for a ratio, "points" for a difference between accuracies.
        accuracies: Of the two that are compared, where both have one.
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
        """Whether it reaches its target; None where it has none.

        >>> Row("store / bare backbone", 0.95, 0.9, 1.0, target=0.9).is_met
        True
        """
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass(frozen=True)
class Conditions:
    """What a measurement was made under.

    Attributes:
        date: Day and time of its end.
        machine: Processor, cores, memory and versions.
        rounds: How often each candidate ran.
        quick: Whether with a tenth of the work, which says that it runs and not how fast.
        others: Share of the processor's time that other processes took meanwhile; None where nobody counts it.
    """

    date: str
    machine: str
    rounds: int
    quick: bool
    others: float | None

    @property
    def disturbed(self) -> bool:
        """Whether other processes took so much that a figure may be another on a quiet machine."""
        return self.others is not None and self.others > 0.05


@dataclass(frozen=True)
class Measurement:
    """Candidates that ran side by side.

    Attributes:
        name: Of its group, then its own: "extraction/vgg16".
        title: What was done, and on what.
        unit: Of the candidates' values: "images/s", "s".
        candidates: In the order in which they ran.
        rows: What is to be quoted of it.
        command: What repeats it.
        remarks: What one must know to read it.
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
    """How many times as fast one is as another: the ratio of their medians, and the range of the rounds' ratios.

    Args:
        ours: The one.
        other: The other, from the same rounds.
        unit: Of their values; of seconds, fewer are faster.
        target: At least so much.
        what: "ours / other", where it is not given.
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
    """By how many points of accuracy one is better than another: the mean over the runs, and their range."""
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
    """How much more the large one takes: the ratio of medians, and the range of the rounds' ratios."""
    ratios = [b / a for a, b in zip(small, large, strict=True)]
    return Row(what, median(large) / median(small), min(ratios), max(ratios), target, at_most=True)


def belongs(name: str, group: str) -> bool:
    """Whether a name is a group's or within it.

    >>> belongs("cached_cut/vgg16", "cached_cut"), belongs("cached_cut/vgg16", "cached")
    (True, False)
    """
    return f"{name}/".startswith(f"{group}/")


def keep(measurement: Measurement, folder: Path) -> None:
    """Writes a measurement beside the others, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{measurement.name.replace('/', '.')}.json"
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(asdict(measurement), indent=2))
    beside.replace(path)


def kept(folder: Path) -> list[Measurement]:
    """The measurements of a folder, by name."""
    return [from_json(json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def from_json(fields: dict[str, Any]) -> Measurement:
    """A measurement from the plain values that `keep` writes."""
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
