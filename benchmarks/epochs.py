"""A frozen-backbone epoch and a fine-tuning epoch, against a hand-written loop, Lightning's recipe, fastai.

Each candidate first trains the head on a frozen SqueezeNet 1.1, then everything, on the same photographs.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from benchmarks.by_hand import by_hand
from benchmarks.environments import run_worker
from benchmarks.lightning_recipe import lightning_recipe
from benchmarks.recipe import Reached, Recipe
from benchmarks.results import Candidate, Measurement, times_as_fast
from benchmarks.settings import Settings
from benchmarks.timing import quiet_trainer
from lightning_transfer import (
    FineTuningClassifier,
    FrozenBackboneClassifier,
    ImageFolderDataModule,
    StagedUnfreeze,
)
from lightning_transfer.utils.machine import default_precision


def ours(data: Path, weights: Path, recipe: Recipe, seed: int) -> Reached:
    """Train regime two, then regime three from its checkpoint, with audit and scores."""
    torch.manual_seed(seed)
    images = ImageFolderDataModule(
        str(data), batch_size=recipe.batch_size, seed=seed, augmentation=recipe.augmentation
    )
    arguments: dict[str, Any] = {"backbone": "squeezenet1_1", "pool": "avg", "seed": seed}

    def fit(model: LightningModule, epochs: int, schedule: list[StagedUnfreeze]) -> float:
        trainer = quiet_trainer(default_precision(), epochs)
        trainer.limit_val_batches = 0
        trainer.callbacks += schedule  # type: ignore[attr-defined]
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # the tables of the schedule
            trainer.fit(model, images)
        seconds = (time.perf_counter() - start) / epochs
        trainer.save_checkpoint(checkpoint)
        return seconds

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "last.ckpt"
        frozen = FrozenBackboneClassifier(weights=str(weights), lr=recipe.frozen_lr, **arguments)
        frozen_seconds = fit(frozen, recipe.frozen_epochs, [])
        tuned = FineTuningClassifier(
            init_from=str(checkpoint), lr=recipe.head_lr, layer_decay=0.9, scheduler="one_cycle", **arguments
        )
        everything = StagedUnfreeze({0: ["head", *tuned.backbone.stage_names]})
        tuned_seconds = fit(tuned, recipe.tuned_epochs, [everything])
        (scores,) = quiet_trainer(default_precision()).test(tuned, images, verbose=False)
    return Reached(frozen_seconds, tuned_seconds, scores["test/accuracy"])


def fastai(environments: Path) -> Callable[[Path, Path, Recipe, int], Reached]:
    """Run fastai's `fine_tune` with its defaults, in fastai's environment."""

    def run(data: Path, weights: Path, recipe: Recipe, seed: int) -> Reached:
        said = run_worker(
            "fastai_finetune",
            "fastai",
            environments,
            {
                "data": str(data.resolve()),
                "weights": str(weights.resolve()),
                "batch_size": recipe.batch_size,
                "tuned_epochs": recipe.tuned_epochs,
                "seed": seed,
            },
        )
        return Reached(**said)

    return run


def measure(settings: Settings) -> list[Measurement]:
    """Measure for `python -m benchmarks`: both kinds of epochs from the same runs."""
    recipe = Recipe()
    candidates: dict[str, Callable[[Path, Path, Recipe, int], Reached]] = {
        f"this library, {default_precision()}": ours,
        f"hand-written loop, {default_precision()}": by_hand,
        "Lightning's recipe, float32": lightning_recipe,
        "fastai, float32": fastai(settings.environments),
    }
    reached: dict[str, list[Reached]] = {name: [] for name in candidates}
    with settings.fewer_if_quick() as data:
        for seed in range(settings.rounds):
            for name, run in candidates.items():
                reached[name].append(run(data, settings.weights, recipe, seed))
                print(f"{name}, seed {seed}: {reached[name][-1]}", file=sys.stderr, flush=True)
    found = []
    for kind in ("frozen", "tuned"):
        ran = [
            Candidate(name, tuple(getattr(r, kind) for r in runs), tuple(r.accuracy for r in runs))
            for name, runs in reached.items()
        ]
        mine, hand, recipe_of_lightning, other = ran
        rows = (
            times_as_fast(mine, hand, "s", target=0.9),
            times_as_fast(mine, recipe_of_lightning, "s"),
            times_as_fast(mine, other, "s", target=1.2),
        )
        what = "frozen-backbone epoch" if kind == "frozen" else "fine-tuning epoch, all stages"
        remarks = (
            f"The training photographs at 150 × 150, in batches of {recipe.batch_size}.",
            f"Accuracy is of the whole run: {recipe.frozen_epochs} frozen-backbone epoch and "
            f"{recipe.tuned_epochs} fine-tuning epochs. Seconds are those of a phase, without validation, divided "
            "by its epochs; round r has seed r.",
            "The hand-written loop has this library's augmentation; fastai has the nearest of its own, with its "
            "default learning rates and number of workers; Lightning's recipe only mirrors.",
            f"{reached['fastai, float32'][0].versions}.",
        )
        title = f"SqueezeNet 1.1, {what}"
        name = f"epochs/{'frozen-backbone' if kind == 'frozen' else 'fine-tuning'}"
        found.append(Measurement(name, title, "s", tuple(ran), rows, settings.command("epochs"), remarks))
    return found
