"""Run candidates side by side: each in turn, round after round, in one process."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

import lightning
import PIL
import torch
import torchvision
from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table

from benchmarks.results import Candidate, Measurement
from lightning_transfer.utils.machine import default_precision

Precision = Literal["32-true", "bf16-mixed"]


def side_by_side(
    title: str, candidates: dict[str, Callable[[], float]], rounds: int, unit: str, self_timed: bool = False
) -> dict[str, Candidate]:
    """Run the candidates A B A B …, and print each one's speed.

    Args:
        title: Of the table.
        candidates: By name; each does its work once and returns how many units it did.
        rounds: How often each runs.
        unit: "images", "epochs", …
        self_timed: Whether each returns units per second instead, because some of its work must not count.

    Returns:
        The speeds of each, in units per second, by name.
    """
    speeds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            speeds[name].append(work() if self_timed else timed(work)())
            print(f"{name}: {speeds[name][-1]:,.2f} {unit}/s", file=sys.stderr, flush=True)
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column(f"{unit}/s, median", justify="right")
    table.add_column("lowest – highest", justify="right")
    for name, values in speeds.items():
        table.add_row(name, f"{median(values):,.2f}", f"{min(values):,.2f} – {max(values):,.2f}")
    Console(width=110).print(table)
    return {name: Candidate(name, tuple(values)) for name, values in speeds.items()}


def timed(work: Callable[[], float]) -> Callable[[], float]:
    """Wrap a candidate so that it returns units per second."""

    def speed() -> float:
        start = time.perf_counter()
        done = work()
        return done / (time.perf_counter() - start)

    return speed


def quiet_trainer(precision: Precision, max_epochs: int | None = None) -> Trainer:
    """Make a Trainer on the CPU that neither saves, logs, shows progress nor warns."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=max_epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def print_rows(measurements: Sequence[Measurement]) -> None:
    """Print the rows of a group that runs as its own command."""
    for measurement in measurements:
        for row in measurement.rows:
            print(f"{measurement.title}: {row.what}: {row.value:.2f} ({row.low:.2f} – {row.high:.2f})")
    print(machine())


def machine() -> str:
    """Return versions and machine, in one line."""
    return (
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, lightning {lightning.__version__}, "
        f"Pillow {PIL.__version__}, Python {platform.python_version()}; {_processor()}, {os.cpu_count()} cores, "
        f"{_gibibytes():.0f} GiB, {platform.machine()}; default precision {default_precision()}"
    )


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    names = [line for line in listed.read_text().splitlines() if "model name" in line] if listed.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or "unknown processor"


def _gibibytes() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
