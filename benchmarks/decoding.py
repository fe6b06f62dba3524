"""Are photographs at their original sizes decoded as fast as a light backbone, ResNet18, takes them?"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torchvision import models

from benchmarks.extraction import bare
from benchmarks.results import Measurement, times_as_fast
from benchmarks.settings import Settings
from benchmarks.timing import quiet_trainer, side_by_side
from lightning_transfer import Backbone, ImageFolderDataModule, extract_features
from lightning_transfer.utils.machine import default_precision


def measure(settings: Settings) -> list[Measurement]:
    """Measure for `python -m benchmarks`."""
    precision, batch_size = default_precision(), 32
    images = settings.some(1000)
    data = settings.real / "data" / "originals"
    folder = ImageFolderDataModule(
        str(data), split=(0.5, 0.25, 0.25), batch_size=batch_size, max_images=max(4, images // 2)
    )
    folder.setup()
    backbone = Backbone("resnet18", weights=None).eval()
    count = sum(len(samples) for samples in folder.index.splits.values())
    features = Path(tempfile.mkdtemp())

    def ours() -> float:
        store = extract_features(quiet_trainer(precision), backbone, folder, root=features)
        shutil.rmtree(store.path)
        return count

    def decoded() -> float:
        dataset = folder.dataset("train")
        for index in range(len(dataset)):
            dataset[index]
        return len(dataset)

    network = torch.nn.Sequential(*list(models.resnet18(weights=None).children())[:-2])
    network = network.eval().to(memory_format=torch.channels_last)
    ready = torch.randn(count, 3, 150, 150).contiguous(memory_format=torch.channels_last)
    title = f"ResNet18 at 150 × 150, {count:,} photographs of their original sizes, batches of {batch_size}"
    alone, store, decoding = side_by_side(
        title,
        {
            f"bare backbone, {precision}": bare(network, ready, batch_size, precision == "bf16-mixed"),
            f"files to a store, {precision}": ours,
            "decoding alone, one process": decoded,
        },
        settings.rounds,
        "images",
    ).values()
    shutil.rmtree(features)
    rows = (
        times_as_fast(store, alone, "images/s"),
        times_as_fast(decoding, alone, "images/s", target=1.0),
    )
    remarks = (
        f"Median size of the photographs 437 × 374; {folder.num_workers} worker(s), by default half of the cores. "
        "Random weights, so only time is compared. The first ratio includes an extraction's start, about a "
        "second, and the cost of a core that decodes instead of computing.",
    )
    return [
        Measurement(
            "decoding/resnet18",
            f"Decoding, {title}",
            "images/s",
            (alone, store, decoding),
            rows,
            settings.command("decoding"),
            remarks,
        )
    ]
