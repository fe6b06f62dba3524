"""How much time all plots add to the offline default, regime by regime.

    python -m benchmarks.plots

It runs `lightning-transfer compare`'s own runs with and without, side by side, on one thread, and counts the main
process's processor time, which other work on the machine hardly changes. "An epoch" is the mean over all of a run,
validations included, but not what is plotted once at the end; "a fit" is all of `Trainer.fit`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from jsonargparse import auto_cli
from lightning.pytorch import Trainer

from benchmarks.timing import machine, quiet_trainer
from lightning_transfer.callbacks import history
from lightning_transfer.cli.data_by_name import data_by_name
from lightning_transfer.cli.data_options import DataOptions
from lightning_transfer.comparison import run as run_module
from lightning_transfer.comparison.compare import AUGMENTATION, EPOCHS
from lightning_transfer.comparison.run import REGIMES, Regime, Run
from lightning_transfer.monitoring.plots import PLOTS, Plots

NONE = Plots(**dict.fromkeys(PLOTS, False))


@contextmanager
def timed_fits() -> Iterator[list[float]]:
    """The processor's seconds of every fit inside it, in which History's clock shows them, too."""
    seconds: list[float] = []
    fit = Trainer.fit

    def timed(self: Trainer, *given: Any, **named: Any) -> None:
        start = time.process_time()
        with patch.object(history.time, "perf_counter", time.process_time):
            fit(self, *given, **named)
        seconds.append(time.process_time() - start)

    with patch.object(Trainer, "fit", timed):
        yield seconds


def main(rounds: int = 3, regimes: list[Regime] = list(REGIMES)) -> None:  # noqa: B006  # never changed
    """Measure, and print the ratios.

    Args:
        rounds: How often each runs.
        regimes: Which; fine-tuning begins with the frozen backbone's run.
    """
    torch.set_num_threads(1)
    quiet_trainer("32-true")  # for the quiet it leaves
    images = data_by_name("sketch_pets", DataOptions(batch_size=32), AUGMENTATION)
    seconds: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as plain, tempfile.TemporaryDirectory() as plotted:
            for regime in regimes:
                for root, plots in ((plain, NONE), (plotted, Plots())):
                    run = Run(regime, images, "mobilenet_v3_small", "bundled", EPOCHS[regime], Path(root))
                    with patch.object(run_module, "Plots", return_value=plots), timed_fits() as fits:
                        epochs = run.outcome().seconds["train"]
                    seconds.setdefault((regime, plots.graph), []).append((epochs, fits[0]))
    for regime in regimes:
        plain_runs, plotted_runs = seconds[regime, False], seconds[regime, True]
        epoch, fit = (
            median(run[place] for run in plotted_runs) / median(run[place] for run in plain_runs)
            for place in (0, 1)
        )
        once = median(b[1] - b[0] for b in plotted_runs) - median(a[1] - a[0] for a in plain_runs)
        print(f"{regime}: an epoch {epoch:.3f}, a fit {fit:.3f} times as long; at the end {once:.1f} s")
    total = [sum(median(run[1] for run in seconds[regime, on]) for regime in regimes) for on in (False, True)]
    print(f"all fits: {total[1] / total[0]:.3f} times as long")
    print(machine())


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
