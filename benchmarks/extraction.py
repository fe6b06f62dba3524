"""From JPEG files to a finished store, against the bare base and against a plain loop.

    python -m benchmarks.extraction --data data/cats_and_dogs_small

VGG16 at 150 × 150, with random numbers in place of weights: speed does not depend on them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.timing import machine, quiet_trainer, side_by_side
from lightning_transfer import ConvBase, ImageFolderDataModule, extract_features
from lightning_transfer.precision import default_precision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def bare(network: nn.Module, images: torch.Tensor, batch_size: int, bf16: bool) -> Callable[[], float]:
    """The network alone, on pictures that are ready: floating, normalised, channels last."""

    def work() -> float:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for batch in images.split(batch_size):
                network(batch)
        return len(images)

    return work


def plain_loop(root: Path, image_size: int, batch_size: int, num_workers: int, count: int) -> Callable[[], float]:
    """What most people write: torchvision's network, ImageFolder, a DataLoader, float32."""
    network = models.vgg16(weights=None).features.eval()
    to_float = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((image_size, image_size)),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def work() -> float:
        loader = DataLoader(ImageFolder(str(root / "train"), to_float), batch_size, num_workers=num_workers)
        outputs, seen = [], 0
        with torch.no_grad():
            for images, _ in loader:
                outputs.append(network(images).numpy())
                seen += len(images)
                if seen >= count:
                    break
        return seen

    return work


def main(data: str, images: int = 600, plain: int = 200, rounds: int = 3, batch_size: int = 20) -> None:
    """Measure, and print the ratios.

    Args:
        data: A folder with train, validation and test.
        images: Pictures for the store and for the bare base, a round; a third from each split.
        plain: Pictures for the plain loop, a round.
        rounds: How often each runs.
        batch_size: For all.
    """
    precision = default_precision()
    folder = ImageFolderDataModule(data, batch_size=batch_size, max_samples=images // 3)
    base = ConvBase("vgg16", weights=None).eval()
    features = Path(tempfile.mkdtemp())

    def ours() -> float:
        store = extract_features(quiet_trainer(precision), base, folder, features)
        count = sum(len(store.labels(split)) for split in store.splits)
        shutil.rmtree(store.path)
        return count

    network = models.vgg16(weights=None).features.eval().to(memory_format=torch.channels_last)
    ready = torch.randn(images, 3, 150, 150).contiguous(memory_format=torch.channels_last)
    speeds = side_by_side(
        f"VGG16 at 150 × 150, batches of {batch_size}",
        {
            f"bare base, {precision}": bare(network, ready, batch_size, precision == "bf16-mixed"),
            f"files to store, {precision}": ours,
            "plain loop, float32": plain_loop(Path(data), 150, batch_size, folder.num_workers, plain),
        },
        rounds,
        "images",
    )
    alone, store, loop = speeds.values()
    print(f"files to store / bare base in the same precision: {store / alone:.2f}")
    print(f"files to store / plain float32 loop: {store / loop:.2f}")
    print(machine())
    shutil.rmtree(features)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
