"""Runs whose processes the Trainer starts by itself; `training/test_spawned.py` looks at what is left of each.

    python spawn_runs.py STRATEGY DATA IMAGES OUT

The module is set up and trained in those processes alone. What this one has of it afterwards is what Lightning
hands back; from that it saves a checkpoint, tests and classifies, as a person's script or notebook does.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_transfer import (
    Classifier,
    FeatureClassifier,
    FeatureDataModule,
    FineTuningClassifier,
    ImageFolderDataModule,
    StagedUnfreeze,
    extract_features,
    load_classifier,
)
from lightning_transfer.training.checkpoint_io import AtomicCheckpointIO


def main(strategy: str, kind: str, image_folder: Path, out: Path) -> None:
    """Fit, save, load, test."""
    best = ModelCheckpoint(out, "best", monitor="validation/accuracy", mode="max")
    last = ModelCheckpoint(out, "last")
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[best, last] + ([StagedUnfreeze({0: ["head"], 1: ["fire9"]})] if kind == "images" else []),
        plugins=[AtomicCheckpointIO()],
    )
    images = ImageFolderDataModule(
        str(image_folder), image_size=32, resize="crop", max_pixels=4000, batch_size=6, num_workers=0
    )
    # Nothing about the data: they say it in `setup`, which runs in the other processes.
    arguments: dict[str, Any] = {
        "backbone": "squeezenet1_1",
        "weights": None,
        "pool": "avg",
        "hidden": 8,
        "lr": 1e-2,
    }
    model: Classifier
    data: LightningDataModule = images
    if kind == "images":
        model = FineTuningClassifier(**arguments)
    else:
        model = FeatureClassifier(**arguments)
        single = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        data = FeatureDataModule(extract_features(single, model.backbone, images, root=out / "features"))
    trainer.fit(model, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.save_checkpoint(out / "saved.ckpt")
    classifier = load_classifier(out / "saved.ckpt")
    file = next((image_folder / "test" / "dogs").glob("*.jpg"))
    [tested] = trainer.test(model, data, verbose=False)
    seen = {
        "weights": {name: value.clone() for name, value in model.network.state_dict().items()},
        "class_names": model.class_names,
        "file": str(file),
        "probabilities": classifier.classify([file])[0].probabilities,
        "best": best.best_model_path,
        "fitted": scores,
        "tested": tested,
    }
    torch.save(seen, out / "seen.pt")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
