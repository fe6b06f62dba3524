"""Side by side: each candidate in turn, round after round, in one process."""

from __future__ import annotations

import logging
import os
import platform
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Literal

import lightning
import torch
import torchvision
from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table

Precision = Literal["32-true", "bf16-mixed"]


def side_by_side(
    title: str, candidates: dict[str, Callable[[], float]], rounds: int, unit: str, self_timed: bool = False
) -> dict[str, float]:
    """Runs the candidates A B A B …, and prints each one's speed.

    Args:
        title: Of the table.
        candidates: By name; each does its work once and returns how many units it did.
        rounds: How often each runs.
        unit: "images", "epochs", …
        self_timed: Whether each returns units a second instead, since some of its work is not to count.

    Returns:
        The median speed of each, in units a second.
    """
    speeds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            start = time.perf_counter()
            done = work()
            speeds[name].append(done if self_timed else done / (time.perf_counter() - start))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column(f"{unit}/s, median", justify="right")
    table.add_column("lowest – highest", justify="right")
    for name, values in speeds.items():
        table.add_row(name, f"{median(values):,.2f}", f"{min(values):,.2f} – {max(values):,.2f}")
    Console(width=110).print(table)
    return {name: median(values) for name, values in speeds.items()}


def quiet_trainer(precision: Precision, max_epochs: int | None = None) -> Trainer:
    """A Trainer on the CPU that neither saves, logs, draws nor warns."""
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


def machine() -> str:
    """Versions and machine, in a line."""
    return (
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, lightning {lightning.__version__}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    )
