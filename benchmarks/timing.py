"""Side by side: each candidate in turn, round after round, in one process."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from statistics import median

import lightning
import torch
import torchvision
from rich.console import Console
from rich.table import Table


def side_by_side(
    title: str, candidates: dict[str, Callable[[], float]], rounds: int, unit: str
) -> dict[str, float]:
    """Runs the candidates A B A B …, and prints each one's speed.

    Args:
        title: Of the table.
        candidates: By name; each does its work once and returns how many units it did.
        rounds: How often each runs.
        unit: "images", "epochs", …

    Returns:
        The median speed of each, in units a second.
    """
    speeds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            start = time.perf_counter()
            done = work()
            speeds[name].append(done / (time.perf_counter() - start))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column(f"{unit}/s, median", justify="right")
    table.add_column("lowest – highest", justify="right")
    for name, values in speeds.items():
        table.add_row(name, f"{median(values):,.2f}", f"{min(values):,.2f} – {max(values):,.2f}")
    Console(width=110).print(table)
    return {name: median(values) for name, values in speeds.items()}


def machine() -> str:
    """Versions and machine, in a line."""
    return (
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, lightning {lightning.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    )
