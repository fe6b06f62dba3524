"""Time and memory of a data module's start on many small files, beside torchvision's ImageFolder.

    python -m benchmarks.scan --files 5000 50000 200000

A first start lists the files and looks for duplicates; a second one, on the unchanged folder, has what was kept.
The files have distinct content and sizes spread as those of JPEGs of some 8 kB, with holes instead of pixels: of
each only the size and the end is ever read. All of them are in the system's cache of files, as after unpacking.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from torchvision.datasets import ImageFolder

from benchmarks.timing import machine
from lightning_transfer import ImageFolderDataModule

CLASSES = 10
ROUNDS = 5
TYPICAL = 8000  # bytes
LIMITS = {"first start": 6.0, "unchanged folder": 2.0, "bytes an image": 200.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[5000, 50_000, 200_000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder, "cache"))
        for count in asked.files:
            root = Path(folder, f"images{count}")
            make_files(root, count)
            measure(root, count, asked.rounds)
    print(machine())


def make_files(root: Path, count: int) -> None:
    """Make files of distinct content, in class folders."""
    random = np.random.default_rng(0)
    sizes = random.lognormal(np.log(TYPICAL), 0.5, count).astype(int) + 600
    for number, size in enumerate(sizes.tolist()):
        path = root / f"class{number % CLASSES}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(b"\xff\xd8\xff")
            file.seek(size - 500)
            file.write(random.bytes(500))


def measure(root: Path, count: int, rounds: int) -> None:
    """Print the ratios of one size, the median of rounds and their range."""
    seconds: dict[str, list[float]] = {"ImageFolder": [], "first start": [], "unchanged folder": []}
    time.sleep(2.5)  # what was written just now is not kept
    ImageFolder(str(root))
    for _ in range(rounds):
        forget()
        seconds["ImageFolder"].append(seconds_of(lambda: ImageFolder(str(root))))
        seconds["first start"].append(seconds_of(lambda: start(root)))
        seconds["unchanged folder"].append(seconds_of(lambda: start(root)))
    for name in ("first start", "unchanged folder"):
        ratios = [own / theirs for own, theirs in zip(seconds[name], seconds["ImageFolder"], strict=True)]
        print(
            f"{count:,} files, {name}: {median(ratios):.1f} × ImageFolder "
            f"({min(ratios):.1f} – {max(ratios):.1f}; wanted {LIMITS[name]:g} at most)",
            flush=True,
        )
    for name in ("first start", "unchanged folder"):
        if name == "first start":
            forget()
        wanted = f"wanted {LIMITS['bytes an image']:g} at most"
        print(f"{count:,} files, {name}: {memory(root):.0f} bytes an image beyond its path ({wanted})", flush=True)


def start(root: Path) -> ImageFolderDataModule:
    """Set up a data module, as each run does."""
    data = ImageFolderDataModule(str(root), left_out_report=None)
    data.setup()
    return data


def forget() -> None:
    """Remove what a start has kept."""
    for path in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.npz"):
        path.unlink()


def seconds_of(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def memory(root: Path) -> float:
    """The peak of what Python and NumPy hold in a start, beyond the paths, in bytes an image."""
    tracemalloc.start()
    data = start(root)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    paths = [path for samples in data.index.splits.values() for path in samples.paths]
    return (peak - sum(path.__sizeof__() for path in paths)) / len(paths)


if __name__ == "__main__":
    main()
