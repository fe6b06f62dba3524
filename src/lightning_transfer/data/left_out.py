"""Tell which files are not used, and why."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from lightning_transfer.errors import OutputError
from lightning_transfer.utils.files import whole_file


def summary(left_out: Sequence[tuple[str, str]]) -> list[str]:
    """Say in a line for each reason how many files it concerns.

    Args:
        left_out: Path and reason of each.

    >>> summary([("a.txt", "not an image: .txt"), ("b.txt", "not an image: .txt"), ("c.jpg", "empty")])
    ['2 left out: not an image: .txt (a.txt, …)', '1 left out: empty (c.jpg)']
    """
    by_reason: dict[str, list[str]] = {}
    for path, reason in left_out:
        by_reason.setdefault(reason, []).append(path)
    return [
        f"{len(paths):,} left out: {reason} ({paths[0]}{', …' if len(paths) > 1 else ''})"
        for reason, paths in by_reason.items()
    ]


@rank_zero_only
def write_left_out(report: Path, root: Path, left_out: Sequence[tuple[str, str]]) -> None:
    """Write path and reason of each file into a CSV file; on the first process alone.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with whole_file(report) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "reason"])
            writer.writerows((root / path, reason) for path, reason in left_out)
    except OSError as error:
        raise OutputError(
            f"The list of files left out {report} cannot be written ({error}): pass another left_out_report."
        ) from error
