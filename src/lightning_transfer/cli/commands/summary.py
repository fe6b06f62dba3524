"""`lightning-transfer summary`: the layers of a backbone, with their shapes and parameters.

Shapes: C channels, H W image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.meta_init import meta_init

Depth = Literal["stage", "block", "layer"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Stage and layer: "block1_conv1".
        type: The layer's class.
        shape: (C, H, W) of its output.
        parameters: How many numbers it holds that can be trained.
        trainable: How many of them are.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    trainable: int


def summary(
    backbone: str = "vgg16",
    image_size: int = 150,
    last_stage: str | None = None,
    train_from: str | None = None,
    depth: Depth = "block",
) -> list[Row]:
    """Print the layer table of a backbone: name, type, output shape, parameters.

    Needs no weights, and computes nothing.

    Args:
        backbone: The network's name in torchvision.
        image_size: H and W of the images, in pixels.
        last_stage: The last stage that is kept; all where it is not given.
        train_from: Count the stages before this one as frozen: the cut of fine-tuning.
        depth: A row for each stage, for each block in them, or for each single layer.

    Returns:
        The rows of the table.

    Raises:
        BackboneError: An unknown network, stage or depth, or images that are too small for it.
    """
    if depth not in get_args(Depth):
        raise BackboneError(f"depth={depth!r}: wanted one of {', '.join(get_args(Depth))}.")
    with meta_init():
        network = Backbone(backbone, weights=None, last_stage=last_stage)
    if train_from is not None:
        prefix, _ = network.split(train_from)
        prefix.requires_grad_(False)
    rows = list(_rows(network, image_size, depth))
    _print(rows, f"{backbone} at {image_size} × {image_size}")
    return rows


def _parts(backbone: Backbone, depth: Depth) -> Iterator[tuple[str, nn.Module]]:
    for path, module in backbone.stages.named_modules():
        level = len(path.split(".")) if path else 0
        # ConvNeXt's blocks hold a parameter beside their layers.
        single = not any(module.children()) or bool(list(module.parameters(recurse=False)))
        if level == {"stage": 1, "block": 2}.get(depth) or (depth == "layer" and single):
            yield path.replace(".", "_"), module


def _rows(backbone: Backbone, image_size: int, depth: Depth) -> Iterator[Row]:
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note_shape(module: nn.Module, _: Any, output: Tensor) -> None:
        shapes[module] = tuple(output.shape[1:])

    parts = list(_parts(backbone, depth))
    hooks = [module.register_forward_hook(note_shape) for _, module in parts]
    backbone.out_shape(image_size)
    for hook in hooks:
        hook.remove()
    for name, module in parts:
        if module not in shapes:
            continue  # torchvision never calls it: EfficientNet's StochasticDepth where no shortcut is
        parameters = module.parameters(recurse=depth != "layer")
        counts = [(p.numel(), p.requires_grad) for p in parameters]
        total = sum(count for count, _ in counts)
        trainable = sum(count for count, trains in counts if trains)
        yield Row(name, type(module).__name__, shapes[module], total, trainable)


def _print(rows: list[Row], title: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    table.add_column("type")
    table.add_column("output shape", justify="right")
    table.add_column("parameters", justify="right")
    for row in rows:
        table.add_row(row.name, row.type, "×".join(map(str, row.shape)), f"{row.parameters:,}")
    total = sum(row.parameters for row in rows)
    trainable = sum(row.trainable for row in rows)
    table.add_section()
    table.add_row("total", "", "×".join(map(str, rows[-1].shape)), f"{total:,}")
    table.add_row("trainable", "", "", f"{trainable:,}")
    table.add_row("not trainable", "", "", f"{total - trainable:,}")
    Console().print(table)
