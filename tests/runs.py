"""Runs that several tests of stages share: what is fitted, what is watched, and when two runs are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_transfer import FineTuningClassifier, ImageFolderDataModule, parameter_groups

MOBILENET = ("stem", "block1", "block2", "block3", "block4", "block5", "last_conv")
# A run that goes on saves where the first one did.
EXISTING = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def fine_tuning(**arguments: Any) -> FineTuningClassifier:
    """A fine-tuning module with random weights, the same each time; BatchNorm in every stage of its backbone."""
    seed_everything(0, verbose=False)
    defaults = {
        "backbone": "mobilenet_v3_small",
        "weights": None,
        "num_classes": 2,
        "image_size": 32,
        "pool": "avg",
        "hidden": 8,
        "lr": 1e-3,
    }
    return FineTuningClassifier(**(defaults | arguments))


def images_of(root: Path, **arguments: Any) -> ImageFolderDataModule:
    """Shuffled, augmented training images."""
    images = ImageFolderDataModule(
        str(root), **({"image_size": 32, "batch_size": 5, "num_workers": 0} | arguments)
    )
    images.setup()
    return images


def finished(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which may start others, and give what became of it."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


class Watch(Callback):
    """Notes, epoch by epoch, what trains, in which mode each stage is, the weights and the scores."""

    def __init__(self) -> None:
        self.trained: dict[int, set[str]] = {}
        self.modes: dict[int, dict[str, set[bool]]] = {}
        self.weights: dict[int, dict[str, Tensor]] = {}
        self.scores: dict[int, dict[str, Tensor]] = {}
        self.steps: dict[int, int] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks after each batch; what differs within an epoch shows as two entries."""
        epoch = trainer.current_epoch
        self.steps[epoch] = self.steps.get(epoch, 0) + 1
        stages = pl_module.stages
        self.trained.setdefault(epoch, set()).update(
            name for name, stage in stages.items() if all(p.requires_grad for p in stage.parameters())
        )
        modes = self.modes.setdefault(epoch, {name: set() for name in stages})
        for name, stage in stages.items():
            modes[name].update(module.training for module in stage.modules())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the weights after an epoch and its validation."""
        self.weights[trainer.current_epoch] = copied(pl_module.state_dict())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the scores of the epoch before, since a module logs some of them after callbacks have looked."""
        self.scores[trainer.current_epoch - 1] = dict(trainer.callback_metrics)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the scores of the last epoch."""
        self.scores[trainer.current_epoch - 1] = dict(trainer.callback_metrics)


class Halt(Callback):
    """Ends a run after an epoch, as a person's Ctrl-C does, but in order."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so to the Trainer."""
        trainer.should_stop = trainer.current_epoch == self.epoch


def every_epoch(folder: Path, at_validation: bool = False) -> ModelCheckpoint:
    """Saves a checkpoint after each epoch, or at the end of each validation."""
    return ModelCheckpoint(
        folder, "{epoch}", save_top_k=-1, auto_insert_metric_name=False, save_on_train_epoch_end=not at_validation
    )


def saved(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, without the places of other checkpoints and the counts of this process's work."""
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    states = checkpoint["callbacks"]
    checkpoint["callbacks"] = {
        name: state for name, state in states.items() if not name.startswith("ModelCheckpoint")
    }
    checkpoint["callbacks"].get("History", {}).pop("seconds", None)  # a clock is never the same
    del checkpoint["loops"]
    return checkpoint


def copied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that later steps leave alone."""
    return {name: value.detach().clone() for name, value in values.items()}


def differing(one: Any, other: Any, path: str = "") -> list[str]:
    """Places where two nested structures are not the same to the last bit."""
    if isinstance(one, Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, Mapping):
        if one.keys() != other.keys():
            return [f"{path}: {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [place for key in one for place in differing(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{path}: {len(one)} and {len(other)}"]
        return [
            place
            for i, pair in enumerate(zip(one, other, strict=True))
            for place in differing(*pair, f"{path}/{i}")
        ]
    return [] if one == other else [f"{path}: {one} and {other}"]


class Stranger(LightningModule):
    """A module of somebody else: no base class, optimizer or step of this library's."""

    def __init__(self, optimizer: Callable[[Any], torch.optim.Optimizer] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.top = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        self.optimizer = optimizer

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The protocol: names and modules, from the input to the output."""
        return {"body": self.body, "neck": self.neck, "top": self.top}

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 2)."""
        logits: Tensor = self.top(self.neck(self.body(images)))
        return logits

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Logs what AdaptiveUnfreeze watches."""
        self.log("loss", F.cross_entropy(self(batch[0]), batch[1]))

    def val_dataloader(self) -> DataLoader[Any]:
        """The same images."""
        return noise()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, whose steps are easy to follow by hand."""
        groups = parameter_groups(self.stages, lr=0.1)
        return torch.optim.SGD(groups) if self.optimizer is None else self.optimizer(self)


class Scored(Stranger):
    """Its validation logs a score that was given for each epoch."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__()
        self.given = scores

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Logs it."""
        self.log("score", self.given[self.current_epoch])


def noise(samples: int = 16, batch_size: int = 4) -> DataLoader[Any]:
    """Images of noise in a fixed order, with labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(samples, 3, 8, 8, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(samples) % 2), batch_size)
