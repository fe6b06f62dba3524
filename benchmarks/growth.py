"""Time and memory with 1, 2, 4 and 8 times the images; each size in its own process.

A process takes its images from the same photographs, makes a store of them, trains a head on it, and trains a
head on the frozen backbone. Its memory includes its workers', but not mapped files.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.environments import run_here
from benchmarks.results import Candidate, Measurement, Row, growth
from benchmarks.settings import Settings

SIZES = (1, 2, 4, 8)
SMALLEST = 240  # images, a third from each split


class PeakMemory:
    """Sample ten times a second how many bytes this process and its workers hold, without mapped files."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.bytes = max(self.bytes, sum(map(_held, ["self", *_workers()])))


def _workers() -> list[str]:
    return [str(process.pid) for process in multiprocessing.active_children()]


def _held(process: str) -> int:
    """Return a process's share of anonymous and shared memory, so that shared pages count once in total."""
    try:
        lines = Path("/proc", process, "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def run(data: str, weights: str, images: int) -> dict[str, float]:
    """Return the seconds of each of the three, and the peak of memory; in a new process."""
    from benchmarks.timing import quiet_trainer
    from lightning_transfer import (
        FeatureClassifier,
        FeatureDataModule,
        FrozenBackboneClassifier,
        ImageFolderDataModule,
        extract_features,
    )
    from lightning_transfer.utils.machine import default_precision

    folder = ImageFolderDataModule(data, batch_size=32, max_images=images // 3)
    seconds = {}
    with PeakMemory() as memory, tempfile.TemporaryDirectory() as root:
        model = FeatureClassifier("squeezenet1_1", weights=weights, pool="avg")
        start = time.perf_counter()
        store = extract_features(quiet_trainer(default_precision()), model.backbone, folder, root=root)
        seconds["extraction"] = time.perf_counter() - start
        start = time.perf_counter()
        quiet_trainer(default_precision(), 5).fit(model, FeatureDataModule(store, batch_size=32))
        seconds["head"] = time.perf_counter() - start
        frozen = FrozenBackboneClassifier("squeezenet1_1", weights=weights, pool="avg")
        start = time.perf_counter()
        quiet_trainer(default_precision(), 1).fit(frozen, folder)
        seconds["frozen"] = time.perf_counter() - start
    return seconds | {"bytes": memory.bytes}


def measure(settings: Settings) -> list[Measurement]:
    """Measure for `python -m benchmarks`: one row each, 8 times the images compared with 1 time."""
    sizes = {size: size * max(30, settings.some(SMALLEST)) for size in SIZES}
    found: dict[int, list[dict[str, Any]]] = {size: [] for size in SIZES}
    for _ in range(settings.rounds):
        for size, images in sizes.items():
            asked = {"data": str(settings.images), "weights": str(settings.weights), "images": images}
            found[size].append(run_here("benchmarks.growth", asked))
            print(f"{size} ×: {found[size][-1]}", file=sys.stderr, flush=True)
    names = {
        "extraction": "extraction",
        "head": "five epochs of a head on the store",
        "frozen": "a frozen-backbone epoch",
    }
    measurements = []
    for key, what in names.items():
        values = {size: tuple(1000 * said[key] / sizes[size] for said in found[size]) for size in SIZES}
        row = growth("time an image at 8 × the images over that at 1 ×", values[1], values[8], target=1.1)
        measurements.append(_measurement(settings, sizes, key, what, "ms an image", values, row))
    memory = {size: tuple(said["bytes"] / 1e6 for said in found[size]) for size in SIZES}
    row = growth("peak memory at 8 × the images over that at 1 ×", memory[1], memory[8], target=1.1)
    measurements.append(
        _measurement(settings, sizes, "memory", "extraction, head and frozen backbone in a row", "MB", memory, row)
    )
    return measurements


def _measurement(
    settings: Settings,
    sizes: dict[int, int],
    key: str,
    what: str,
    unit: str,
    values: dict[int, tuple[float, ...]],
    row: Row,
) -> Measurement:
    candidates = tuple(Candidate(f"{images:,} images", values[size]) for size, images in sizes.items())
    remark = (
        "The ratio compares 8 × the images with 1 ×; less is better. It includes the start of a fit or an "
        "extraction. Memory is what the processes hold, without mapped files."
    )
    title = f"SqueezeNet 1.1, {what}"
    return Measurement(f"growth/{key}", title, unit, candidates, (row,), settings.command("growth"), (remark,))


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
