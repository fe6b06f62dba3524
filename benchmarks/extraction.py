"""From JPEG files to a finished store, compared with the bare backbone, a plain loop, and Keras.

    python -m benchmarks.extraction --data data/cats_and_dogs_small

VGG16 at 150 × 150 with random weights: speed does not depend on them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.environments import run_worker
from benchmarks.plain_torch import RESIZE, TO_FLOAT
from benchmarks.results import Measurement, times_as_fast
from benchmarks.settings import Settings
from benchmarks.timing import print_rows, quiet_trainer, side_by_side, timed
from lightning_transfer import Backbone, ImageFolderDataModule, extract_features
from lightning_transfer.utils.machine import default_precision

# Name, precision, and whether `predict` is called for each batch, as in the book, or once for all.
KERAS = (
    ("Keras, the book's way, float32", "float32", True),
    ("Keras, the book's way, bf16", "mixed_bfloat16", True),
    ("Keras, a single predict, bf16", "mixed_bfloat16", False),
)


def bare(network: nn.Module, images: torch.Tensor, batch_size: int, bf16: bool) -> Callable[[], float]:
    """Run only the network, on images that are ready: floating, normalised, channels last."""

    def work() -> float:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for batch in images.split(batch_size):
                network(batch)
        return len(images)

    return work


def plain_loop(root: Path, batch_size: int, num_workers: int, count: int) -> Callable[[], float]:
    """Run what most people write: torchvision's network, ImageFolder, a DataLoader, float32."""
    network = models.vgg16(weights=None).features.eval()
    ready = v2.Compose([RESIZE, TO_FLOAT])

    def work() -> float:
        loader = DataLoader(ImageFolder(str(root / "train"), ready), batch_size, num_workers=num_workers)
        outputs, seen = [], 0
        with torch.no_grad():
            for images, _ in loader:
                outputs.append(network(images).numpy())
                seen += len(images)
                if seen >= count:
                    break
        return seen

    return work


def keras(environments: Path, versions: set[str], **arguments: Any) -> Callable[[], float]:
    """Run Keras in its environment: from the same files to an array, without its start and its first batch."""

    def work() -> float:
        said = run_worker("keras_extraction", "keras", environments, arguments)
        versions.add(said["versions"])
        return float(said["images"] / said["seconds"])

    return work


def compared(
    data: Path,
    environments: Path | None,
    images: int,
    plain: int,
    rounds: int,
    batch_size: int,
    command: str = "python -m benchmarks.extraction --data FOLDER",
) -> Measurement:
    """Measure all of them in turn; Keras if there is a folder for its environment."""
    precision = default_precision()
    folder = ImageFolderDataModule(str(data), batch_size=batch_size, max_images=max(1, images // 3))
    backbone = Backbone("vgg16", weights=None).eval()
    features = Path(tempfile.mkdtemp())

    def ours() -> float:
        store = extract_features(quiet_trainer(precision), backbone, folder, root=features)
        count = sum(len(store.labels(split)) for split in store.splits)
        shutil.rmtree(store.path)
        return count

    network = models.vgg16(weights=None).features.eval().to(memory_format=torch.channels_last)
    ready = torch.randn(images, 3, 150, 150).contiguous(memory_format=torch.channels_last)
    candidates = {
        f"bare backbone, {precision}": timed(bare(network, ready, batch_size, precision == "bf16-mixed")),
        f"files to a store, {precision}": timed(ours),
        "plain loop, float32": timed(plain_loop(data, batch_size, folder.num_workers, plain)),
    }
    versions: set[str] = set()
    if environments is not None:
        for name, kind, by_batch in KERAS:
            asked = {"data": str(data.resolve()), "images": images if "bf" in kind else plain}
            candidates[name] = keras(
                environments, versions, **asked, batch_size=batch_size, precision=kind, by_batch=by_batch
            )
    title = f"VGG16 at 150 × 150, batches of {batch_size}"
    alone, store, loop, *others = side_by_side(title, candidates, rounds, "images", self_timed=True).values()
    rows = [
        times_as_fast(store, alone, "images/s", target=0.9),
        times_as_fast(store, loop, "images/s"),
        *(times_as_fast(store, other, "images/s", target=1.0) for other in others),
    ]
    remarks = [f"Random weights, so only time is compared. {images} images per round, {plain} in float32."]
    if versions:
        remarks.append(f"Keras is timed without its start and its first batch: {', '.join(versions)}.")
    shutil.rmtree(features)
    return Measurement(
        "extraction/vgg16",
        f"Extraction, {title}",
        "images/s",
        (alone, store, loop, *others),
        tuple(rows),
        command,
        tuple(remarks),
    )


def measure(settings: Settings) -> list[Measurement]:
    """Measure for `python -m benchmarks`."""
    images, plain = settings.some(600), settings.some(200)
    command = settings.command("extraction")
    return [compared(settings.images, settings.environments, images, plain, settings.rounds, 32, command)]


def main(data: str, images: int = 600, plain: int = 200, rounds: int = 3, batch_size: int = 20) -> None:
    """Measure without Keras, and print the ratios.

    Args:
        data: A folder with train, validation and test.
        images: Images per round for the store and the bare backbone; a third from each split.
        plain: Images per round for the plain loop.
        rounds: How often each runs.
        batch_size: For all.
    """
    print_rows([compared(Path(data), None, images, plain, rounds, batch_size)])


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
