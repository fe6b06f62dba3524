"""What one run takes from another's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_transfer.errors import ModuleError
from lightning_transfer.training.checkpoint_io import read_checkpoint

# Hyperparameters that name files. A checkpoint holds what was in them.
ORIGINS = ("weights", "head_from", "init_from")
HEAD = ("num_classes", "pool", "hidden")
BASE = ("backbone", "last_stage")
# Those that say which network it is; the others say how it was trained.
NETWORK = (*BASE, *HEAD, "image_size", "dropout")


def recorded_arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are safe to be read as if they had been typed.

    These are numbers, and words where a network is named; what else a file holds might name a class, which the
    command line would import and call.
    """
    return {
        name: value
        for name, value in checkpoint["hyper_parameters"].items()
        if value is None or isinstance(value, int | float) or (isinstance(value, str) and name in NETWORK)
    }


def read_start(path: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the checkpoint that a run starts from, and compares what backbone and head were made with.

    Args:
        path: Of one of this library's modules.
        arguments: The new run's hyperparameters.

    Raises:
        ModuleError: Not such a checkpoint, or one of another backbone or head; names both values.
    """
    checkpoint = read_checkpoint(path)
    if "class_names" not in checkpoint:
        raise ModuleError(f"{path} was not made by a lightning-transfer module.")
    recorded = checkpoint["hyper_parameters"]
    for name in (*BASE, *HEAD):
        if recorded[name] != arguments[name]:
            raise ModuleError(
                f"{path} was trained with {name}={recorded[name]!r}, this run has {name}={arguments[name]!r}: "
                "pass the same value, or another checkpoint."
            )
    return checkpoint


def load_part(
    module: nn.Module, checkpoint: Mapping[str, Any], part: str, path: str, assign: bool = False
) -> None:
    """Copies one part of a checkpoint's weights, "backbone" or "head", into a module; or puts it there, to `assign`.

    Raises:
        ModuleError: The shapes differ.
    """
    try:
        module.load_state_dict(_part(checkpoint, part), assign=assign)
    except RuntimeError as error:
        raise ModuleError(f"The {part} in {path} does not fit: {error}") from error


def check_same_backbone(backbone: nn.Module, checkpoint: Mapping[str, Any], path: str) -> None:
    """A head knows the features of the backbone it was trained on, and no others.

    Raises:
        ModuleError: The backbone in the checkpoint has other weights.
    """
    ours = backbone.state_dict()
    theirs = _part(checkpoint, "backbone")
    if ours.keys() != theirs.keys() or any(not torch.equal(ours[key], theirs[key]) for key in ours):
        raise ModuleError(
            f"The head in {path} was trained on a backbone with other weights "
            f"(weights={checkpoint['pretrained_weights']!r}): pass the same, or init_from={path}, which takes "
            "backbone and head."
        )


def _part(checkpoint: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {key.removeprefix(prefix): v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
