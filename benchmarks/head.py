"""Training the head on a store, compared with a bare PyTorch loop over the same batches.

    python -m benchmarks.head

2,000 training and 1,000 validation features of VGG16's shape at 150 × 150, random: speed does not depend on their
values.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jsonargparse import auto_cli

from benchmarks.results import Measurement, times_as_fast
from benchmarks.settings import Settings
from benchmarks.timing import Precision, print_rows, quiet_trainer, side_by_side
from lightning_transfer import Backbone, FeatureClassifier, FeatureDataModule, FeatureStore, Head
from lightning_transfer.features.builder import StoreBuilder
from lightning_transfer.features.manifest import Manifest, SplitManifest
from lightning_transfer.models.head import Pool

SHAPE = (512, 4, 4)
COUNTS = {"train": 2000, "validation": 1000}


def make_store(root: Path, backbone: Backbone) -> FeatureStore:
    """Make a store of random features with this backbone's fingerprint."""
    recipe = {
        "last_stage": backbone.stage_names[-1],
        "backbone_fingerprint": backbone.fingerprint(),
        "image_size": 150,
        "resize": "squash",
    }
    splits = {
        name: SplitManifest(tuple(map(str, range(n))), tuple(i % 2 for i in range(n)))
        for name, n in COUNTS.items()
    }
    builder = StoreBuilder(root / "random", Manifest("0" * 64, recipe, ("cats", "dogs"), SHAPE, "float16", splits))
    builder.begin()
    for name, count in COUNTS.items():
        builder.write(name, range(count), np.random.default_rng(0).random((count, *SHAPE)).astype(np.float32))
    builder.publish()
    return FeatureStore(builder.path)


def bare(
    store: FeatureStore, pool: Pool, batch_size: int, epochs: int, bf16: bool, fused: bool
) -> Callable[[], float]:
    """Train with the same head, order, optimizer and validation in a hand-written loop; AdamW fused or not."""
    head = Head(SHAPE, 2, pool)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-4, fused=fused)
    arrays = {name: (store.features(name), torch.from_numpy(store.labels(name))) for name in COUNTS}

    def batches(split: str, order: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        features, labels = arrays[split]
        for rows in np.array_split(order, range(batch_size, len(order), batch_size)):
            yield torch.from_numpy(features[rows]).float(), labels[rows]

    def work() -> float:
        for epoch in range(epochs):
            head.train()
            for features, labels in batches(
                "train", np.random.default_rng([0, epoch]).permutation(COUNTS["train"])
            ):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = F.cross_entropy(head(features).float(), labels)
                loss.backward()
                optimizer.step()
            head.eval()
            right = 0
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                for features, labels in batches("validation", np.arange(COUNTS["validation"])):
                    right += int((head(features).argmax(dim=1) == labels).sum())
        return epochs

    return work


def compared(
    epochs: int, rounds: int, batch_size: int, precision: Precision, command: str = "python -m benchmarks.head"
) -> list[Measurement]:
    """Measure both kinds of pooling."""
    found = []
    for pool in ("flatten", "avg"):
        model = FeatureClassifier("vgg16", weights=None, pool=pool)
        store = make_store(Path(tempfile.mkdtemp()), model.backbone)

        def ours(model: FeatureClassifier = model, store: FeatureStore = store) -> float:
            quiet_trainer(precision, epochs).fit(model, FeatureDataModule(store, batch_size=batch_size))
            return epochs

        bf16 = precision == "bf16-mixed"
        candidates = {
            "bare loop": bare(store, pool, batch_size, epochs, bf16, fused=False),
            "bare loop, fused AdamW": bare(store, pool, batch_size, epochs, bf16, fused=True),
            "Trainer.fit": ours,
        }
        title = f"Head with pool={pool} on a store, {precision}, batches of {batch_size}"
        loop, fused, fit = side_by_side(title, candidates, rounds, "epochs").values()
        rows = (times_as_fast(fit, loop, "epochs/s"), times_as_fast(fit, fused, "epochs/s"))
        remark = "Random features, so only time is compared."
        found.append(Measurement(f"head/{pool}", title, "epochs/s", (loop, fused, fit), rows, command, (remark,)))
        shutil.rmtree(store.path.parent)
    return found


def measure(settings: Settings) -> list[Measurement]:
    """Measure for `python -m benchmarks`."""
    return compared(settings.some(10), settings.rounds, 20, "32-true", settings.command("head"))


def main(epochs: int = 5, rounds: int = 5, batch_size: int = 20, precision: Precision = "32-true") -> None:
    """Measure, and print the ratios.

    Args:
        epochs: Per round.
        rounds: How often each runs.
        batch_size: For both.
        precision: For both.
    """
    print_rows(compared(epochs, rounds, batch_size, precision))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
