"""Tell what was decided about the images, which files are not used, and why."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from lightning_transfer.data.index import ImageIndex
from lightning_transfer.errors import OutputError
from lightning_transfer.utils.files import whole_file


def tell(index: ImageIndex, report: Path | None) -> None:
    """Say what was decided about the images, and what is left out.

    Args:
        index: The images.
        report: The file to list in what is left out, if anything is; None for none.

    Raises:
        OutputError: It cannot be written.
    """
    for note in index.notes:
        rank_zero_info(note)
    for warning in index.warnings:
        rank_zero_warn(warning)
    for line in summary(index.left_out):
        rank_zero_info(line)
    if index.left_out and report is not None:
        write_left_out(report, index.root, index.left_out, rank_zero_info)


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
def write_left_out(
    report: Path, root: Path, left_out: Sequence[tuple[str, str]], say: Callable[[str], object]
) -> None:
    """Write path and reason of each file into a CSV file, and say where it is; on the first process alone.

    Args:
        report: The CSV file.
        root: The folder that the paths start from.
        left_out: Path and reason of each; if there are none, that is not said.
        say: Prints a line.

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
    if left_out:
        say(f"All that is left out: {report}")
