"""Run the three regimes on the same images, and say which one to choose."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torchmetrics.functional.classification import multiclass_confusion_matrix

from lightning_transfer.comparison.identity import identity
from lightning_transfer.comparison.images import list_left_out, prepared
from lightning_transfer.comparison.run import REGIMES, Regime, Run
from lightning_transfer.comparison.statistics import wilson
from lightning_transfer.comparison.tables import (
    COLUMNS,
    Outcomes,
    advice,
    detail_lines,
    difference_lines,
    differences,
    in_words,
    rows,
)
from lightning_transfer.data.augmentation import Augmentation
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.errors import DataError, TransferError
from lightning_transfer.models.weights import choose_weights
from lightning_transfer.monitoring.figures import confusion_figure, curves
from lightning_transfer.utils.lightning import quiet_lightning

EPOCHS: dict[Regime, int] = {"feature_extraction": 20, "frozen_backbone": 4, "fine_tuning": 5}
# Gentler than the book's set, which is meant for training from nothing.
AUGMENTATION = Augmentation(flip=True, rotation=20, shift=0.1, shear=0, zoom=0.2, colour=0.2)


def compare(
    data: ImageDataModule | str | Path,
    backbone: str = "mobilenet_v3_small",
    *,
    weights: str = "auto",
    epochs: int | None = None,
    seeds: int = 1,
    out: str | Path = "comparison",
    name: str | None = None,
) -> Outcomes:
    """Run feature extraction, frozen backbone and fine-tuning on the same images, and compare them.

    Fine-tuning starts from the frozen backbone's run. What is finished does not run again, and what was stopped
    continues: make the same call.

    Args:
        data: A data module, which is not changed; or a folder of images, a folder for each class, which are
            resized as in `usual_size`. Where there is no test split, one is made, see `with_test`.
        backbone: The network's name.
        weights: A weights name, a path, "bundled", or "none" for random; "auto" is the bundled ones where this
            library has them, else the provider's own.
        epochs: Of each regime; None for 20, 4 and 5.
        seeds: How often each regime runs, with other orders, augmentations and heads: from the data's seed on.
        out: The folder for report, figures, checkpoints and TensorBoard logs.
        name: What the report calls the data; None for their folder.

    Returns:
        The result of each regime, one a seed.

    Raises:
        DataError: The images are not usable, or `out` holds another comparison.
        BackboneError: An unknown network, or weights or images that do not fit it.
    """
    weights = choose_weights(backbone, weights)
    root = Path(out)
    runs: dict[Regime, list[Run]] = {regime: [] for regime in REGIMES}
    outcomes: dict[str, list[Any]] = {regime: [] for regime in REGIMES}
    console = Console()
    one = None if weights == "none" else weights
    found, report = prepared(data, root, AUGMENTATION, backbone, one)
    images = found.with_test_split()
    name = name or str(images.index.root)
    arguments = {"data": name, "backbone": backbone, "weights": weights, "epochs": epochs, **identity(images)}
    with _claimed(root, arguments, report), quiet_lightning(), _way_on_told(console):
        if images is not found:
            console.print(images.index.notes[-1], highlight=False, markup=False, soft_wrap=True)
        list_left_out(images, report, console)
        for seed in range(images.seed, images.seed + seeds):
            for number, regime in enumerate(REGIMES, start=1):
                length = epochs or EPOCHS[regime]
                run = Run(regime, _with_seed(images, seed), backbone, one, length, root)
                again = f", seed {seed}" if seeds > 1 else ""
                before = ", done before" if run.is_done else ""
                title = f"[bold]{number}/{len(REGIMES)} {in_words(regime)}[/bold]"
                console.print(f"{title}, {length:,} epochs{again}{before}")
                outcome = run.outcome()
                console.print(f"    test accuracy {outcome.accuracy:.1%}")
                runs[regime].append(run)
                outcomes[regime].append(outcome)
    title = f"{name}, {backbone} ({weights})"
    _write(root, runs, outcomes, title)
    _print(console, outcomes, f"{title}, {len(outcomes[REGIMES[0]][0].right):,} test images")
    console.print(f"\nReport, figures and checkpoints: {root}/report.md", highlight=False)
    return outcomes


def _with_seed(images: ImageDataModule, seed: int) -> ImageDataModule:
    """Copy a data module, with another seed of order and augmentation; the split stays."""
    images = copy.copy(images)
    images.seed = seed
    return images


@contextmanager
def _claimed(root: Path, arguments: Mapping[str, Any], report: Path | None) -> Iterator[None]:
    """Record what a folder is for, so that another comparison does not continue in it; undone if nothing ran."""
    note = root / "arguments.json"
    if note.is_file():
        noted = json.loads(note.read_text())
        other = [
            f"{name}={noted.get(name, 'unknown')} and not {new}"
            for name, new in arguments.items()
            if noted.get(name, "unknown") != new
        ]
        if other:
            raise DataError(f"{root} holds a comparison with {', '.join(other)}: pass another out, or remove it.")
    root.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(arguments))
    try:
        yield
    except TransferError:
        there = list(root.iterdir())
        if all(path in (note, report) and path.is_file() for path in there):
            for path in there:
                path.unlink()
            root.rmdir()
        raise


@contextmanager
def _way_on_told(console: Console) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        console.print("\nStopped. The same command continues after the last epoch that was saved.")
        raise


def _write(root: Path, runs: Mapping[Regime, Sequence[Run]], outcomes: Outcomes, title: str) -> None:
    first = {in_words(regime): seeds[0] for regime, seeds in runs.items()}
    curves({name: run.history() for name, run in first.items()}).savefig(root / "curves.png", dpi=120)
    names = next(iter(first.values())).images.class_names
    matrices = {}
    for name, run in first.items():
        labels, probabilities = run.predictions()
        given = torch.from_numpy(probabilities.argmax(axis=1)), torch.from_numpy(labels)
        matrices[name] = multiclass_confusion_matrix(*given, len(names)).numpy()
    confusion_figure(matrices, names).savefig(root / "confusion.png", dpi=120)
    (root / "metrics.json").write_text(json.dumps(_metrics(outcomes), indent=2) + "\n")
    lines = [
        f"# Three regimes: {title}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(row)} |" for row in rows(outcomes)),
        "",
        *(f"- {line}" for line in (*detail_lines(outcomes), *difference_lines(outcomes))),
        "",
        f"**{advice(outcomes)}**",
        "",
        "Fine-tuning starts from the frozen backbone's run; its time does not include that. Accuracies have "
        "Wilson's 95 % intervals; p-values are those of McNemar's exact test; img/s counts training images; "
        "memory is the main process's peak.",
        "",
        "![Accuracy and loss by epoch](curves.png)",
        "",
        "![Confusion matrices on the test images](confusion.png)",
    ]
    (root / "report.md").write_text("\n".join(lines) + "\n")


def _metrics(outcomes: Outcomes) -> dict[str, Any]:
    """Collect means over the seeds, and each seed's accuracy."""
    regimes: dict[str, Any] = {}
    for regime, seeds in outcomes.items():
        total = len(seeds[0].right)
        accuracy = sum(outcome.accuracy for outcome in seeds) / len(seeds)
        regimes[regime] = {
            "test_accuracy": accuracy,
            "test_accuracy_by_seed": [outcome.accuracy for outcome in seeds],
            "test_accuracy_interval": wilson(round(accuracy * total), total),
            "test_auroc": sum(outcome.auroc for outcome in seeds) / len(seeds),
            "trainable_parameters": seeds[0].trainable_parameters,
            "images_per_second": sum(outcome.images_per_second for outcome in seeds) / len(seeds),
            "seconds": sum(sum(outcome.seconds.values()) for outcome in seeds) / len(seeds),
            "seconds_by_phase": [dict(outcome.seconds) for outcome in seeds],
            "peak_memory_bytes": max(outcome.peak_memory for outcome in seeds),
        }
    pairs = [
        {"regimes": pair, "seed": seed, "difference": found.difference, "p_value": found.p_value}
        for pair, by_seed in differences(outcomes).items()
        for seed, found in enumerate(by_seed)
    ]
    return {"regimes": regimes, "differences": pairs, "advice": advice(outcomes)}


def _print(console: Console, outcomes: Outcomes, title: str) -> None:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "regime" else "right", no_wrap=True)
    for row in rows(outcomes):
        table.add_row(*row)
    console.print(table)
    console.print()
    for line in (*detail_lines(outcomes), *difference_lines(outcomes)):
        console.print(line, highlight=False)
    console.print(f"\n[bold]{advice(outcomes)}[/bold]", highlight=False)
