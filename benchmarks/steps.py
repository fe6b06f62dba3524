"""Training steps of the second and the third regime, compared with the same steps in a hand-written loop.

    python -m benchmarks.steps

Images are random and in memory: this compares the cost of a step, not decoding. Both take them from the same
DataLoader. Prepared batches would make any loop's steps faster, ResNet18's by a tenth, but no run on images has
them.
"""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.results import Measurement, times_as_fast
from benchmarks.settings import Settings
from benchmarks.timing import Precision, print_rows, quiet_trainer, side_by_side
from lightning_transfer import FineTuningClassifier, FrozenBackboneClassifier, StagedUnfreeze
from lightning_transfer.models.freezing import is_trainable
from lightning_transfer.training.classifier import Classifier
from lightning_transfer.utils.machine import default_precision

Regime = Literal["frozen backbone", "fine-tuning"]


class StepTimer(Callback):
    """Time a fit's training steps, without what is around them."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock at the second step; the first one allocates what later ones reuse."""
        if batch_idx == 1:
            self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock before validation and checkpoints."""
        self.seconds = time.perf_counter() - self.start


def by_hand(model: Classifier, loader: DataLoader[Any], bf16: bool) -> Callable[[], float]:
    """Train the same network with the same loader and optimizer; each step counts the right answers, too."""
    backbone, head = copy.deepcopy(model.backbone), copy.deepcopy(model.head)
    unfrozen = [stage for stage in (*backbone.stages.values(), head) if is_trainable(stage)]
    optimizer = torch.optim.AdamW([p for stage in unfrozen for p in stage.parameters()], lr=1e-4, fused=True)
    backbone.eval()
    for stage in unfrozen:
        stage.train()

    def step(images: Tensor, labels: Tensor) -> int:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = head(backbone(images))
            loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return int((logits.argmax(dim=1) == labels).sum())

    def work() -> float:
        batches = iter(loader)
        step(*next(batches))
        second = next(batches)
        start = time.perf_counter()
        step(*second)
        for batch in batches:
            step(*batch)
        return (len(loader) - 1) / (time.perf_counter() - start)

    return work


def ours(model: Classifier, loader: DataLoader[Any], precision: Precision, regime: Regime) -> Callable[[], float]:
    """Train with the Trainer and all default callbacks, including the audit."""

    def work() -> float:
        timer = StepTimer()
        trainer = quiet_trainer(precision, max_epochs=1)
        schedule = {0: ["head"]} if regime == "frozen backbone" else {0: ["head", model.backbone.stage_names[-1]]}
        trainer.callbacks += [StagedUnfreeze(schedule), timer]  # type: ignore[attr-defined]
        with contextlib.redirect_stdout(io.StringIO()):  # the tables of the schedule
            trainer.fit(copy.deepcopy(model), loader)
        return (len(loader) - 1) / timer.seconds

    return work


def compared(
    backbones: Mapping[str, int],
    rounds: int,
    batch_size: int,
    precision: Precision,
    command: str = "python -m benchmarks.steps",
) -> list[Measurement]:
    """Measure both regimes on each backbone."""
    found = []
    for backbone, steps in backbones.items():
        images = torch.randint(0, 256, (steps * batch_size, 3, 150, 150), dtype=torch.uint8)
        labels = torch.arange(len(images)) % 2
        loader = DataLoader(TensorDataset(images, labels), batch_size)
        for regime, kind in (("frozen backbone", FrozenBackboneClassifier), ("fine-tuning", FineTuningClassifier)):
            model = kind(backbone, weights=None, num_classes=2, image_size=150)
            model.backbone.requires_grad_(False)
            if regime == "fine-tuning":
                model.backbone.stages[model.backbone.stage_names[-1]].requires_grad_(True)
            title = f"Steps of {backbone}, {regime}, {precision}, batches of {batch_size}"
            hand, fit = side_by_side(
                title,
                {
                    "hand-written loop": by_hand(model, loader, precision == "bf16-mixed"),
                    "Trainer.fit": ours(model, loader, precision, regime),
                },
                rounds,
                "steps",
                self_timed=True,
            ).values()
            row = times_as_fast(fit, hand, "steps/s", target=0.9)
            remarks = (f"{steps} steps per round on random images; random weights, so only time is compared.",)
            name = f"steps/{backbone}-{regime.replace(' ', '-')}"
            found.append(Measurement(name, title, "steps/s", (hand, fit), (row,), command, remarks))
    return found


def measure(settings: Settings) -> list[Measurement]:
    """Measure for `python -m benchmarks`: epochs as long as the README's."""
    steps = {"squeezenet1_1": 100, "resnet18": 60, "vgg16": 20}
    backbones = {backbone: max(3, settings.some(number)) for backbone, number in steps.items()}
    return compared(backbones, settings.rounds, 20, default_precision(), settings.command("steps"))


def main(
    backbones: tuple[str, ...] = ("vgg16", "squeezenet1_1", "resnet18"),
    steps: int = 40,
    rounds: int = 3,
    batch_size: int = 20,
    precision: Precision | None = None,
) -> None:
    """Measure, and print how many times as fast ours are as the loop's.

    Args:
        backbones: Networks of torchvision, with random weights.
        steps: Per round.
        rounds: How often each runs.
        batch_size: For both.
        precision: For both; None for the machine's default.
    """
    print_rows(compared(dict.fromkeys(backbones, steps), rounds, batch_size, precision or default_precision()))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
