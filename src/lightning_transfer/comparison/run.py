"""One run of a regime, from a pretrained backbone to its result on the test images.

Shapes: K classes, N samples.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from lightning_transfer.callbacks.history import History
from lightning_transfer.callbacks.staged_unfreeze import StagedUnfreeze
from lightning_transfer.comparison.tables import Outcome
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.features.datamodule import FeatureDataModule
from lightning_transfer.features.extract import extract_features
from lightning_transfer.monitoring.plots import Plots
from lightning_transfer.training.checkpoint_io import AtomicCheckpointIO
from lightning_transfer.training.classifier import Classifier
from lightning_transfer.training.regimes import FeatureClassifier, FineTuningClassifier, FrozenBackboneClassifier
from lightning_transfer.utils.machine import default_precision

Regime = Literal["feature_extraction", "frozen_backbone", "fine_tuning"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
MODULES: dict[Regime, type[Classifier]] = {
    "feature_extraction": FeatureClassifier,
    "frozen_backbone": FrozenBackboneClassifier,
    "fine_tuning": FineTuningClassifier,
}
# What differs in how they train; the backbone's rates are lower, and rise slowly where a stage has just unfrozen.
ARGUMENTS: dict[Regime, dict[str, Any]] = {
    "feature_extraction": {"lr": 1e-3},
    "frozen_backbone": {"lr": 1e-3},
    "fine_tuning": {"lr": 5e-4, "layer_decay": 0.85, "scheduler": "one_cycle", "warmup_steps": 60},
}


class _Progress(RichProgressBar):
    """Lightning's, with the one score that is of interest while one waits."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        accuracy = trainer.callback_metrics.get("validation/accuracy")
        return {} if accuracy is None else {"validation": f"{float(accuracy):.1%}"}


@dataclass(frozen=True)
class Run:
    """One regime with one seed.

    Attributes:
        regime: Which.
        images: The images, prepared; their seed is the run's.
        backbone: The network's name in torchvision.
        weights: See `Backbone`.
        epochs: How many.
        root: The comparison's folder.
    """

    regime: Regime
    images: ImageDataModule
    backbone: str
    weights: str | None
    epochs: int
    root: Path

    @property
    def folder(self) -> Path:
        """The folder of its checkpoints and results."""
        return self.root / self.regime / f"seed_{self.images.seed}"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation accuracy."""
        return self.folder / "best.ckpt"

    @property
    def is_done(self) -> bool:
        """Whether it has finished before."""
        return (self.folder / "outcome.json").is_file()

    def outcome(self) -> Outcome:
        """Return the result; train first, or resume, where it has not finished."""
        if not self.is_done:
            self._execute()
        fields = json.loads((self.folder / "outcome.json").read_text())
        fields.pop("history")
        labels, probabilities = self.predictions()
        return Outcome(right=probabilities.argmax(axis=1) == labels, **fields)

    def history(self) -> list[dict[str, float]]:
        """The scores of each epoch."""
        return cast(list[dict[str, float]], json.loads((self.folder / "outcome.json").read_text())["history"])

    def predictions(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(N,) labels and (N, K) probabilities of the test images, in order."""
        with np.load(self.folder / "predictions.npz") as arrays:
            return arrays["labels"], arrays["probabilities"]

    def _execute(self) -> None:
        _forget_peak_memory()
        torch.manual_seed(self.images.seed)
        model, history = self._model(), History()
        trainer = self._trainer(model, history)
        seconds: dict[str, float] = {}
        data: LightningDataModule = self.images
        if self.regime == "feature_extraction":
            start = time.perf_counter()
            store = extract_features(trainer, model.backbone, self.images, root=self.root / "features")
            data = FeatureDataModule(
                store, batch_size=self.images.batch_size, seed=self.images.seed, images=self.images
            )
            seconds["extract"] = time.perf_counter() - start
        last = self.folder / "last.ckpt"
        trainer.fit(model, data, ckpt_path=last if last.is_file() else None, weights_only=True)
        seconds["train"] = history.seconds
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        start = time.perf_counter()
        model = MODULES[self.regime].load_from_checkpoint(self.best, weights_only=True)
        probabilities = torch.cat(cast(list[Tensor], trainer.predict(model, data)))
        seconds["test"] = time.perf_counter() - start
        labels = torch.tensor(self.images.dataset("test").samples.labels)
        np.savez(self.folder / "predictions.npz", labels=labels, probabilities=probabilities)
        outcome = {
            "accuracy": float((probabilities.argmax(dim=1) == labels).float().mean()),
            "auroc": mean_auroc(probabilities, labels),
            "trainable_parameters": trainable,
            "images_per_second": len(self.images.dataset("train")) * self.epochs / history.seconds,
            "seconds": seconds,
            "peak_memory": _peak_memory(),
            "history": history.epochs,
        }
        beside = self.folder / "outcome.json.part"
        beside.write_text(json.dumps(outcome, indent=2))
        beside.rename(self.folder / "outcome.json")  # last: a run is done when this is there

    def _model(self) -> Classifier:
        init_from = None
        if self.regime == "fine_tuning":
            init_from = str(Run("frozen_backbone", self.images, self.backbone, self.weights, 0, self.root).best)
        return MODULES[self.regime](
            backbone=self.backbone,
            weights=self.weights,
            num_classes=self.images.num_classes,
            image_size=self.images.image_size,
            pool="avg",
            seed=self.images.seed,
            init_from=init_from,
            **ARGUMENTS[self.regime],
        )

    def _precision(self, model: Classifier) -> Literal["bf16-mixed", "32-true"]:
        """The machine's own; but a processor trains BatchNorm layers faster in float32, bf16 units or not."""
        norms = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        if self.regime == "fine_tuning" and norms and not torch.cuda.is_available():
            return "32-true"
        return default_precision()

    def _trainer(self, model: Classifier, history: History) -> Trainer:
        saving = [
            ModelCheckpoint(
                self.folder, "best", monitor="validation/accuracy", mode="max", enable_version_counter=False
            ),
            ModelCheckpoint(self.folder, "last", enable_version_counter=False),
        ]
        callbacks: list[Callback] = [history, _Progress(), *Plots().callbacks(), *saving]
        if self.regime == "fine_tuning":
            callbacks.append(StagedUnfreeze(by_thirds(model.backbone.stage_names, self.epochs)))
        version = f"{self.regime}_seed_{self.images.seed}"
        return Trainer(
            max_epochs=self.epochs,
            precision=self._precision(model),
            logger=TensorBoardLogger(self.root, "logs", version, default_hp_metric=False),
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )


def by_thirds(stage_names: tuple[str, ...], epochs: int) -> dict[int, list[str]]:
    """Make a schedule for a trained head: the last third of the stages from the start, then the middle third.

    The first third sees edges and colours, which are alike in all images, and costs most to train.

    >>> by_thirds(("block1", "block2", "block3", "block4", "block5"), epochs=10)
    {0: ['head', 'block5', 'block4'], 3: ['block3', 'block2']}
    """
    order = stage_names[::-1]
    third = -(-len(order) // 3)
    schedule: dict[int, list[str]] = {0: ["head", *order[:third]]}
    if middle := list(order[third : 2 * third]):
        schedule.setdefault(epochs // 3, []).extend(middle)
    return schedule


def mean_auroc(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean AUROC of the classes that are there; NaN for images of one class, where none is defined.

    >>> round(mean_auroc(torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), torch.tensor([0, 1])), 3)
    1.0
    """
    classes = sorted(set(labels.tolist()))
    if len(classes) < 2:
        return math.nan
    areas = [float(binary_auroc(probabilities[:, label], (labels == label).long())) for label in classes]
    return mean(areas)


def _forget_peak_memory() -> None:
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")  # see proc(5): this resets the peak


def _peak_memory() -> int:
    """Return this process's peak memory in bytes: since its reset on Linux, since the process began elsewhere."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
