"""Fine-tuning the last stages on stored outputs of the stages before them, compared with fine-tuning from images.

For VGG16 and ResNet18, with random weights, the time of 30 epochs is computed from a few measured ones.
SqueezeNet's runs are complete, and have an accuracy.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from lightning.pytorch import LightningDataModule

from benchmarks.recipe import Recipe
from benchmarks.results import Candidate, Measurement, Row, points_more, times_as_fast
from benchmarks.settings import Settings
from benchmarks.timing import Precision, quiet_trainer
from lightning_transfer import (
    FeatureDataModule,
    FeatureStore,
    FineTuningClassifier,
    ImageFolderDataModule,
    StagedUnfreeze,
    extract_features,
)
from lightning_transfer.utils.machine import default_precision

EPOCHS, VIEWS = 30, 5
AUGMENTATION = Recipe().augmentation


@dataclass(frozen=True)
class Fit:
    """One fit: its seconds, and the accuracy on the test images if it was asked for."""

    seconds: float
    accuracy: float = 0.0


@dataclass(frozen=True)
class Case:
    """A network and its stages that train.

    Attributes:
        backbone: The network's name in torchvision.
        stages: Those that train, from the head on.
        precision: Of extraction and training.
        weights: None for random ones.
        batch_size: Of both.
    """

    backbone: str
    stages: tuple[str, ...]
    precision: Precision
    weights: str | None = None
    batch_size: int = 20

    def model(self, seed: int) -> FineTuningClassifier:
        """Make a module, the same for the same seed."""
        torch.manual_seed(seed)
        return FineTuningClassifier(
            self.backbone,
            self.weights,
            pool="avg",
            seed=seed,
            lr=5e-4,
            layer_decay=0.9,
            scheduler="one_cycle",
            label_smoothing=0.1,
        )

    def images(self, data: Path, seed: int) -> ImageFolderDataModule:
        """Make a data module with new augmentation in each epoch."""
        return ImageFolderDataModule(str(data), batch_size=self.batch_size, seed=seed, augmentation=AUGMENTATION)

    def schedule(self, later: int = 0) -> StagedUnfreeze:
        """Make a schedule: the head from the start, the other stages from an epoch on."""
        return StagedUnfreeze({0: ["head", *self.stages]} if later == 0 else {0: ["head"], later: [*self.stages]})

    def fit(
        self, model: FineTuningClassifier, data: LightningDataModule, epochs: int, later: int, validate: bool
    ) -> float:
        """Fit, and return the seconds."""
        trainer = quiet_trainer(self.precision, epochs)
        trainer.callbacks.append(self.schedule(later))  # type: ignore[attr-defined]
        trainer.num_sanity_val_steps = 0
        trainer.limit_val_batches = 1.0 if validate else 0
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # the tables of the schedule
            trainer.fit(model, data)
        return time.perf_counter() - start

    def extract(self, data: Path, root: Path, seed: int, views: int) -> tuple[FeatureStore, float]:
        """Store the outputs of what never trains; return the store and the seconds."""
        start = time.perf_counter()
        prefix = self.model(seed).frozen_prefix(self.schedule())
        images = self.images(data, seed)
        store = extract_features(quiet_trainer(self.precision), prefix, images, root=root, views=views)
        return store, time.perf_counter() - start


def computed(case: Case, settings: Settings, measured: int) -> Measurement:
    """Compute 30 epochs from a full extraction and a few epochs of each candidate, in turn."""
    with settings.fewer_if_quick() as data, tempfile.TemporaryDirectory() as root:
        store, extraction = case.extract(data, Path(root), 0, VIEWS)
        print(f"{case.backbone}: extraction {extraction:.1f} s", file=sys.stderr, flush=True)
        stored = FeatureDataModule(store, batch_size=case.batch_size)
        totals: dict[tuple[str, bool], list[float]] = {}
        epochs: dict[tuple[str, bool], list[float]] = {}
        for round_number in range(settings.rounds):
            for validate in (False, True):
                for side, served in (("live", case.images(data, round_number)), ("stored", stored)):
                    seconds = case.fit(case.model(0), served, measured, 0, validate) / measured
                    epochs.setdefault((side, validate), []).append(seconds)
                    total = EPOCHS * seconds + (extraction if side == "stored" else 0)
                    totals.setdefault((side, validate), []).append(total)
                    print(f"{case.backbone} {side}, {validate=}: {seconds:.1f} s", file=sys.stderr, flush=True)
        size = sum(path.stat().st_size for path in store.path.iterdir()) / 1e6
    trained = ", ".join(case.stages)
    candidates, rows = [], []
    for validate in (False, True):
        how = "with validation" if validate else "training alone"
        live = Candidate(f"from images, {how}", tuple(totals["live", validate]))
        cut = Candidate(f"cached cut, {VIEWS} views, {how}, with extraction", tuple(totals["stored", validate]))
        candidates += [live, cut]
        # The target is for the hardest case; validation makes the difference larger.
        rows.append(times_as_fast(cut, live, "s", 2.5 if case.backbone == "vgg16" and not validate else None))
    alone = {key: median(seconds) for key, seconds in epochs.items()}
    return Measurement(
        f"cached_cut/{case.backbone}",
        f"{case.backbone}, {EPOCHS} epochs of {trained} and the head",
        "s",
        tuple(candidates),
        tuple(rows),
        settings.command(f"cached_cut/{case.backbone}"),
        (
            f"{case.precision}, batches of {case.batch_size}; random weights, so only time is compared.",
            f"Totals are computed from one full extraction ({extraction:.1f} s, "
            f"{size:,.0f} MB) and {EPOCHS} times an epoch ({measured} measured per round). An epoch "
            f"takes {alone['live', False]:.1f} s from images and {alone['stored', False]:.1f} s from the store, "
            f"with validation {alone['live', True]:.1f} s and {alone['stored', True]:.1f} s.",
        ),
    )


def whole(case: Case, settings: Settings, epochs: int, later: int) -> Measurement:
    """Measure complete runs, one seed per round: from images, and on one and on five stored views."""
    kinds = {f"cached cut, {VIEWS} views": VIEWS, "from images": 0, "cached cut, 1 view": 1}
    fits: dict[str, list[Fit]] = {kind: [] for kind in kinds}
    with settings.fewer_if_quick() as data:
        for seed in range(settings.rounds):
            for kind, views in kinds.items():
                with tempfile.TemporaryDirectory() as root:
                    fits[kind].append(_whole_fit(case, data, Path(root), seed, views, epochs, later))
                print(f"{case.backbone} {kind}, seed {seed}: {fits[kind][-1]}", file=sys.stderr, flush=True)
    five, live, one = (
        Candidate(kind, tuple(fit.seconds for fit in of), tuple(fit.accuracy for fit in of))
        for kind, of in fits.items()
    )
    rows: tuple[Row, ...] = (
        points_more(five, live, target=-0.5),
        points_more(one, live),
        times_as_fast(five, live, "s"),
        times_as_fast(one, live, "s"),
    )
    trained = ", ".join(case.stages)
    return Measurement(
        f"cached_cut/{case.backbone}",
        f"{case.backbone}, {epochs} epochs of {trained} and the head",
        "s",
        (five, live, one),
        rows,
        settings.command(f"cached_cut/{case.backbone}"),
        (
            f"{case.precision}, batches of {case.batch_size}.",
            "Whole runs, with extraction and validation; only the head trains before epoch "
            f"{later}. Accuracy is after the last epoch; round r has seed r.",
        ),
    )


def _whole_fit(case: Case, data: Path, root: Path, seed: int, views: int, epochs: int, later: int) -> Fit:
    model, images = case.model(seed), case.images(data, seed)
    served: LightningDataModule = images
    seconds = 0.0
    if views:
        store, seconds = case.extract(data, root, seed, views)
        served = FeatureDataModule(store, batch_size=case.batch_size, seed=seed)
    seconds += case.fit(model, served, epochs, later, validate=True)
    (scores,) = quiet_trainer(case.precision).test(model, images, verbose=False)
    return Fit(seconds, scores["test/accuracy"])


def squeezenet1_1(settings: Settings) -> list[Measurement]:
    """Measure the last four of its fire modules."""
    fires = ("fire9", "fire8", "fire7", "fire6")
    case = Case("squeezenet1_1", fires, default_precision(), str(settings.weights), 32)
    return [whole(case, settings, epochs=12, later=2)]


def resnet18(settings: Settings) -> list[Measurement]:
    """Measure in float32: a CPU trains BatchNorm layers faster in it; see `lightning_transfer.comparison.run`."""
    return [computed(Case("resnet18", ("layer4",), "32-true"), settings, measured=2)]


def vgg16(settings: Settings) -> list[Measurement]:
    """Measure fine-tuning as in the book."""
    return [computed(Case("vgg16", ("block5",), default_precision()), settings, measured=1)]
