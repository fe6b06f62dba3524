"""Time of `fit` until its first training step, without the import of Lightning's command line.

    python -m benchmarks.startup fit --config configs/feature_extraction.yaml

The arguments are those of `lightning-transfer`; run them once before, so that the store exists.
"""

from __future__ import annotations

import os
import sys
import time

start = time.perf_counter()

import lightning.pytorch.cli  # noqa: E402, F401  # its cost is the yardstick

imported = time.perf_counter()

from lightning_transfer import Backbone  # noqa: E402
from lightning_transfer.cli import main as cli  # noqa: E402
from lightning_transfer.training.classifier import Classifier  # noqa: E402


def report(self: Classifier, batch: object, batch_idx: int) -> None:
    """Print and end the process, instead of the first training step."""
    beyond = time.perf_counter() - imported
    print(f"importing Lightning's command line: {imported - start:.2f} s")
    print(f"from there to the first training step: {beyond:.2f} s; images through the backbone: {passes:,}")
    sys.stdout.flush()
    os._exit(0)


def count(self: Backbone, images: object) -> object:
    """Count real images, not the meta tensors with which shapes are found."""
    global passes
    passes += 0 if images.is_meta else len(images)  # type: ignore[attr-defined, arg-type]
    return forward(self, images)  # type: ignore[arg-type]


passes = 0
forward = Backbone.forward
Backbone.forward = count  # type: ignore[assignment, method-assign]
Classifier.on_train_batch_start = report  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    cli.main()
