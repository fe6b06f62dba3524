"""What the tests of the Trainer's flags and callbacks share: each regime on images and on a store; a witness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor

from lightning_transfer import (
    Backbone,
    Classifier,
    FeatureClassifier,
    FeatureDataModule,
    FeatureStore,
    FineTuningClassifier,
    FrozenBackboneClassifier,
    ImageFolderDataModule,
    StagedUnfreeze,
    extract_features,
)
from lightning_transfer.utils.machine import default_precision

# Regime and data. The first three differ most, and run each time; the others are left to `make nightly`.
DAILY = ("feature-store", "frozen-images", "tuning-images")
CASES: dict[str, tuple[type[Classifier], str]] = {
    "feature-store": (FeatureClassifier, "store"),
    "frozen-images": (FrozenBackboneClassifier, "images"),
    "tuning-images": (FineTuningClassifier, "images"),
    "feature-images": (FeatureClassifier, "images"),
    "frozen-store": (FrozenBackboneClassifier, "store"),
    "tuning-store": (FineTuningClassifier, "store"),
}
EACH_CASE = [pytest.param(case, marks=[] if case in DAILY else [pytest.mark.nightly]) for case in CASES]
# Of the folder's 24, 12 and 12 images.
BATCH, TRAIN, VALIDATION, TEST = 6, 4, 2, 2
SCHEDULE: dict[int, list[str]] = {0: ["head"], 1: ["fire9"]}
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 2,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class Witness(Callback):
    """Notes what happens in a fit: batches, validations, optimizer steps with their gradients, modes, dtypes."""

    def __init__(self, see: Callable[[], Any] | None = None) -> None:
        self.see = see
        self.seen: set[Any] = set()  # what `see` gave, in training steps
        self.labels: dict[int, list[Tensor]] = {}  # of each batch, by epoch
        self.validations: list[int] = []  # batches of each
        self.sanity = 0  # batches
        self.gradients: list[list[Tensor]] = []  # as they came, step by step
        self.stepped: list[list[Tensor]] = []  # as the optimizer got them
        self.inference: set[bool] = set()

    @property
    def batches(self) -> list[int]:
        """How many each epoch had."""
        return [len(labels) for labels in self.labels.values()]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watches the optimizer itself, after whatever Lightning has done to gradients within its step."""
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(lambda *_: self.stepped.append(gradients(pl_module)))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before the step."""
        self.labels.setdefault(trainer.current_epoch, []).append(batch[1])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Before clipping."""
        self.gradients.append(gradients(pl_module))
        if self.see is not None:
            self.seen.add(self.see())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A further one."""
        self.inference.add(torch.is_inference_mode_enabled())
        if not trainer.sanity_checking:
            self.validations.append(0)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Counts."""
        if trainer.sanity_checking:
            self.sanity += 1
        else:
            self.validations[-1] += 1


def gradients(module: LightningModule) -> list[Tensor]:
    """Copies, in the order of the parameters."""
    return [p.grad.detach().clone() for p in module.parameters() if p.grad is not None]


@dataclass
class Ran:
    """A fit that is over."""

    trainer: Trainer
    model: Classifier
    data: LightningDataModule
    witness: Witness

    @property
    def weights(self) -> dict[str, Tensor]:
        """Of backbone and head."""
        return dict(self.model.network.state_dict())


@dataclass
class Runs:
    """Fits of all cases, on the same images and weights."""

    images: Path
    weights: str
    stores: dict[bool, FeatureStore] = field(default_factory=dict)

    def data(self, case: str, **arguments: Any) -> LightningDataModule:
        """New data modules, of the stores that were made once."""
        regime, kind = CASES[case]
        arguments = {"batch_size": BATCH} | arguments
        if kind == "images":
            return ImageFolderDataModule(str(self.images), image_size=32, num_workers=0, **arguments)
        return FeatureDataModule(self.stores[regime is FineTuningClassifier], **arguments)

    def model(self, case: str, **arguments: Any) -> Classifier:
        """The same each time."""
        seed_everything(0, verbose=False)
        defaults = {"weights": self.weights, "pool": "avg", "hidden": 8, "lr": 1e-2, "dropout": 0.0}
        return CASES[case][0]("squeezenet1_1", **(defaults | arguments))

    def fit(
        self,
        case: str,
        callbacks: Sequence[Callback] = (),
        model: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        see: Callable[[], Any] | None = None,
        ckpt_path: Path | None = None,
        **flags: Any,
    ) -> Ran:
        """Two short epochs at the default precision, unless the flags say otherwise."""
        witness, module = Witness(see), self.model(case, **(model or {}))
        schedule = [StagedUnfreeze(SCHEDULE)] if isinstance(module, FineTuningClassifier) else []
        trainer = Trainer(
            **({**QUIET, "precision": default_precision()} | flags), callbacks=[*schedule, *callbacks, witness]
        )
        served = self.data(case, **(data or {}))
        trainer.fit(module, served, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
        return Ran(trainer, module, served, witness)


def made_runs(images: Path, weights: Path, folder: Path) -> Runs:
    """Extract both stores: of the whole backbone, and of the stages that the schedule never unfreezes."""
    runs = Runs(images, str(weights))
    backbone = Backbone("squeezenet1_1", str(weights))
    source = ImageFolderDataModule(str(images), image_size=32, num_workers=0)
    source.setup()
    for tuned, prefix in ((False, backbone), (True, backbone.split("fire9")[0])):
        runs.stores[tuned] = extract_features(Trainer(**QUIET), prefix, source, root=folder)
    return runs
