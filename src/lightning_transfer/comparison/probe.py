"""Which stages of a backbone are worth keeping for these images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lightning_transfer.comparison.images import list_left_out, prepared
from lightning_transfer.comparison.probing import COLUMNS, ProbedStage, advice, chosen_stage, rows
from lightning_transfer.data.datamodule import ImageDataModule
from lightning_transfer.errors import DataError
from lightning_transfer.features.linear_probes import fit_linear_probes
from lightning_transfer.features.stage_outputs import stage_outputs
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.stage_sizes import stage_sizes
from lightning_transfer.models.weights import choose_weights
from lightning_transfer.monitoring.figures import accuracy_by_depth
from lightning_transfer.utils.lightning import quiet_lightning
from lightning_transfer.utils.machine import default_precision


def probe(
    data: ImageDataModule | str | Path,
    backbone: str = "mobilenet_v3_small",
    *,
    weights: str = "auto",
    seed: int = 0,
    out: str | Path = "probe",
    overwrite: bool = False,
    name: str | None = None,
) -> list[ProbedStage]:
    """Train a linear classifier on every stage of a backbone, and say how much of the backbone to keep.

    The backbone runs once over the training and validation images; each stage's output is averaged over the image.

    Args:
        data: A data module, which is not changed; or a folder of images, a folder for each class, which are
            resized as in `usual_size`.
        backbone: The network's name.
        weights: A weights name, a path, "bundled", or "none" for random; "auto" is the bundled ones where this
            library has them, else the provider's own.
        seed: Of random weights.
        out: The folder for table and figure.
        overwrite: Replace those of an earlier run.
        name: What the report calls the data; None for their folder.

    Returns:
        The stages, in the backbone's order.

    Raises:
        DataError: The images are not usable, or `out` holds an earlier run.
        BackboneError: An unknown network, weights that do not fit, or images that are too small for it or do not
            fit its patches.
    """
    root = Path(out)
    if root.is_file():
        raise DataError(f"{root} is a file: pass a folder as out.")
    if (root / "probe.json").exists() and not overwrite:
        raise DataError(f"{root} holds an earlier probe: pass another out, or --overwrite.")
    weights = choose_weights(backbone, weights)
    torch.manual_seed(seed)
    one = None if weights == "none" else weights
    network = Backbone(backbone, one)
    images, report = prepared(data, root, None, backbone, one)
    list_left_out(images, report, Console())
    with quiet_lightning():
        stages = _probe(network, images)
    name = name or str(images.index.root)
    arguments = {
        "data": name,
        "backbone": backbone,
        "weights": weights,
        "image_size": images.image_size,
        "seed": seed,
    }
    _write(root, stages, arguments)
    _print(stages, f"{name}, {backbone} ({weights}), {len(stages[0].right):,} validation images")
    return stages


def _probe(backbone: Backbone, images: ImageDataModule) -> list[ProbedStage]:
    trainer = Trainer(
        devices=1,
        precision=default_precision(),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[RichProgressBar()],
    )
    outputs = stage_outputs(trainer, backbone, images, ("train", "validation"))
    labels = {split: torch.tensor(images.dataset(split).samples.labels) for split in outputs}
    probes = fit_linear_probes(outputs["train"], labels["train"], images.num_classes)
    sizes = stage_sizes(backbone, images.known_size())
    return [
        ProbedStage(
            size.stage,
            size.shape,
            parameters,
            operations,
            right=(classifier(features).argmax(dim=1) == labels["validation"]).numpy(),
        )
        for size, parameters, operations, classifier, features in zip(
            sizes,
            accumulate(size.parameters for size in sizes),
            accumulate(size.operations for size in sizes),
            probes,
            outputs["validation"],
            strict=True,
        )
    ]


def _write(root: Path, stages: Sequence[ProbedStage], arguments: Mapping[str, Any]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    choice = chosen_stage(stages)
    accuracy_by_depth(
        [stage.stage for stage in stages],
        [stage.accuracy for stage in stages],
        [stage.interval for stage in stages],
        choice.stage,
    ).savefig(root / "probe.png", dpi=120)
    report = {
        "arguments": dict(arguments),
        "stages": [
            {
                "stage": stage.stage,
                "shape": stage.shape,
                "parameters": stage.parameters,
                "operations": stage.operations,
                "validation_accuracy": stage.accuracy,
                "validation_accuracy_interval": stage.interval,
            }
            for stage in stages
        ],
        "last_stage": choice.stage,
        "advice": advice(stages),
    }
    (root / "probe.json").write_text(json.dumps(report, indent=2) + "\n")


def _print(stages: Sequence[ProbedStage], title: str) -> None:
    console = Console()
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    for row in rows(stages):
        table.add_row(*row)
    console.print(table)
    console.print(f"\n[bold]{advice(stages)}[/bold]", highlight=False)
