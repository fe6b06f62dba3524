"""How long `fit` takes to its first training step, beyond what importing Lightning's command line costs.

    python -m benchmarks.startup fit --config configs/feature_extraction.yaml

The arguments are those of `lightning-transfer`; run them once before, so that the features are there.
"""

from __future__ import annotations

import os
import sys
import time

start = time.perf_counter()

import lightning.pytorch.cli  # noqa: E402, F401  # its cost is the yardstick

imported = time.perf_counter()

from lightning_transfer import Backbone, cli  # noqa: E402
from lightning_transfer.training.classifier import Classifier  # noqa: E402


def report(self: Classifier, batch: object, batch_idx: int) -> None:
    """Prints and ends the process, in place of the first training step."""
    beyond = time.perf_counter() - imported
    print(f"importing Lightning's command line: {imported - start:.2f} s")
    print(f"from there to the first training step: {beyond:.2f} s; images through the backbone: {passes:,}")
    sys.stdout.flush()
    os._exit(0)


def count(self: Backbone, images: object) -> object:
    """Counts real images; shapes are found with images that have no numbers."""
    global passes
    passes += 0 if images.is_meta else len(images)  # type: ignore[attr-defined, arg-type]
    return forward(self, images)  # type: ignore[arg-type]


passes = 0
forward = Backbone.forward
Backbone.forward = count  # type: ignore[assignment, method-assign]
Classifier.on_train_batch_start = report  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    cli.main()
