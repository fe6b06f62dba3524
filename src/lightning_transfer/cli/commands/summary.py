"""`lightning-transfer summary`: the layers of a backbone, with their shapes and parameters.

Shapes: C channels, H W image, T tokens, D features.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.native_size import usual_size
from lightning_transfer.models.token_maps import in_words

Depth = Literal["stage", "block", "layer"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Stage and layer: "block1_conv1".
        type: The layer's class.
        shape: Of its output: (C, H, W) of a map, (T, D) of tokens.
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
    image_size: int | None = None,
    last_stage: str | None = None,
    train_from: str | None = None,
    depth: Depth = "block",
) -> list[Row]:
    """Print the layer table of a backbone: name, type, output shape, parameters.

    Needs no weights, and computes nothing.

    Args:
        backbone: The network's name: torchvision's, or timm's as "timm/NAME".
        image_size: H and W of the images, in pixels; where it is not given, 150 for vgg16 and mobilenet_v3_small,
            and for others what their weights were trained at.
        last_stage: The last stage that is kept; all where it is not given.
        train_from: Count the stages before this one as frozen: the cut of fine-tuning.
        depth: A row for each stage, for each block in them, or for each single layer.

    Returns:
        The rows of the table.

    Raises:
        BackboneError: An unknown network, stage or depth, or images that are too small for it or do not
            fit its patches.
    """
    if depth not in get_args(Depth):
        raise BackboneError(f"depth={depth!r}: wanted one of {', '.join(get_args(Depth))}.")
    with meta_init():
        network = Backbone(backbone, weights=None, last_stage=last_stage)
    if train_from is not None:
        prefix, _ = network.split(train_from)
        prefix.requires_grad_(False)
    size = usual_size(backbone) if image_size is None else image_size
    rows = list(_rows(network, size, depth))
    _print(rows, f"{backbone} at {size} × {size}")
    return rows


def _parts(backbone: Backbone, depth: Depth) -> Iterator[tuple[str, nn.Module, bool]]:
    """Names and modules of the rows, and whether a row stands for all that is in its module."""
    for path, module in backbone.stages.named_modules():
        level = len(path.split(".")) if path else 0
        if level == {"stage": 1, "block": 2}.get(depth):
            yield path.replace(".", "_"), module, True
            continue
        # ConvNeXt's blocks hold a parameter beside their layers, and a ViT's first stage the class token.
        single = not any(module.children()) or bool(list(module.parameters(recurse=False)))
        if single and (depth == "layer" or (depth == "block" and level == 1)):
            yield path.replace(".", "_"), module, False


def _rows(backbone: Backbone, image_size: int, depth: Depth) -> Iterator[Row]:
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note_shape(module: nn.Module, _: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        tensor = output[0] if isinstance(output, tuple) else output  # attention gives its weights, too
        shapes[module] = tuple(tensor.shape[1:])

    hooks = [module.register_forward_hook(note_shape) for module in backbone.stages.modules()]
    backbone.out_shape(image_size)
    for hook in hooks:
        hook.remove()
    for name, module, whole in _parts(backbone, depth):
        if module not in shapes:
            continue  # torchvision never calls it: EfficientNet's StochasticDepth where no shortcut is
        parameters = module.parameters() if whole else _own_parameters(module, shapes)
        counts = [(p.numel(), p.requires_grad) for p in parameters]
        total = sum(count for count, _ in counts)
        trainable = sum(count for count, trains in counts if trains)
        yield Row(name, type(module).__name__, shapes[module], total, trainable)


def _own_parameters(module: nn.Module, called: Container[nn.Module]) -> Iterator[nn.Parameter]:
    """The parameters of a module without those of the layers that it calls, which have rows of their own."""
    yield from module.parameters(recurse=False)
    for child in module.children():
        if child not in called:  # attention uses its last layer's numbers, and never calls it
            yield from _own_parameters(child, called)


def _print(rows: list[Row], title: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    table.add_column("type")
    table.add_column("output shape", justify="right")
    table.add_column("parameters", justify="right")
    for row in rows:
        table.add_row(row.name, row.type, in_words(row.shape), f"{row.parameters:,}")
    total = sum(row.parameters for row in rows)
    trainable = sum(row.trainable for row in rows)
    table.add_section()
    table.add_row("total", "", in_words(rows[-1].shape), f"{total:,}")
    table.add_row("trainable", "", "", f"{trainable:,}")
    table.add_row("not trainable", "", "", f"{total - trainable:,}")
    Console().print(table)
