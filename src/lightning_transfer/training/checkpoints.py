"""Contents of a checkpoint, and what a new run takes from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_transfer.errors import ModuleError

# Hyperparameters that name files. A checkpoint holds what was in them.
ORIGINS = ("weights", "head_from", "init_from")
LAYERS = ("pool", "hidden")
HEAD = ("num_classes", *LAYERS)
BACKBONE = ("backbone", "last_stage")
# Those that say which network it is; the others say how it was trained.
NETWORK = (*BACKBONE, *HEAD, "image_size", "dropout", "task")
VERSION_KEY = "lightning_transfer_version"
CLASS_KEY = "module_class"  # since 0.2
# What version 0.1, whose checkpoints do not name it, called things.
OLD_NAMES = {
    "base": "backbone",
    "until": "last_stage",
    "lr_decay": "layer_decay",
    "start_from": "init_from",
    "audit": "audit_freezing",
}


def recorded_arguments(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters that are as safe as if they had been typed.

    These are numbers, and strings that describe the network; any other string might name a class, which the
    command line would import and call.
    """
    return {
        name: value
        for name, value in checkpoint["hyper_parameters"].items()
        if value is None or isinstance(value, int | float) or (isinstance(value, str) and name in NETWORK)
    }


def check_same_network(
    checkpoint: Mapping[str, Any],
    arguments: Mapping[str, Any],
    path: str,
    names: Sequence[str] = (*BACKBONE, *HEAD),
) -> None:
    """Compare a checkpoint's backbone and head with a new run's arguments, where these are given.

    Args:
        checkpoint: As read.
        arguments: The new run's.
        path: Of the checkpoint, for the error.
        names: Which arguments.

    Raises:
        ModuleError: They differ; names both values.
    """
    recorded = checkpoint["hyper_parameters"]
    for name in names:
        ours = arguments[name]
        if recorded[name] != ours and not (name == "num_classes" and ours is None):
            raise ModuleError(
                f"{path} was trained with {name}={recorded[name]!r}, this run has {name}={ours!r}: pass the same "
                "value, or another checkpoint."
            )


def version() -> str:
    """Return this library's version, which its checkpoints record."""
    return metadata.version("lightning-transfer")


def class_path(module_class: type) -> str:
    """Return the name under which a checkpoint records the class of its module.

    >>> class_path(nn.Linear)
    'torch.nn.modules.linear:Linear'
    """
    return f"{module_class.__module__}:{module_class.__qualname__}"


def warn_of_other_class(checkpoint: Mapping[str, Any], module_class: type, path: object) -> None:
    """Say so where somebody's own class made a checkpoint, and a class that does not extend it is to read it."""
    recorded = checkpoint.get(CLASS_KEY)
    known = {class_path(cls) for cls in module_class.__mro__}
    if recorded is None or recorded in known or str(recorded).startswith("lightning_transfer."):
        return
    name = str(recorded).replace(":", ".")
    rank_zero_warn(
        f"{path} was made by {name}, and is read as {module_class.__name__}, without what is its own. "
        f"For that pass --model={name} --allow-import {name.partition('.')[0]}."
    )


def is_newer(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a later version of this library has saved a checkpoint.

    >>> is_newer({VERSION_KEY: "999.0"}), is_newer({VERSION_KEY: "0.1"})
    (True, False)
    """
    theirs, ours = (re.findall(r"\d+", str(text))[:3] for text in (checkpoint.get(VERSION_KEY, ""), version()))
    return [int(part) for part in theirs] > [int(part) for part in ours]


def advice_if_newer(checkpoint: Mapping[str, Any]) -> str:
    """The end of an error about a checkpoint: what to do where a later version of this library has saved it."""
    if not is_newer(checkpoint):
        return ""
    return (
        f" It was saved by lightning-transfer {checkpoint[VERSION_KEY]}, newer than the {version()} that is "
        "installed: pip install -U lightning-transfer."
    )


def upgrade(checkpoint: dict[str, Any], path: object = "This checkpoint") -> None:
    """Give a checkpoint of version 0.1 today's names, in place; others stay as they are.

    Raises:
        ModuleError: It is not this library's, or older than 0.1's last form.
    """
    if "class_names" not in checkpoint:
        raise ModuleError(f"{path} was not made by a lightning-transfer module.")
    if "resize" not in checkpoint:
        raise ModuleError(f"{path} does not say how images are resized, as early versions did not: train again.")
    if VERSION_KEY in checkpoint:
        return
    arguments = {OLD_NAMES.get(name, name): value for name, value in checkpoint["hyper_parameters"].items()}
    checkpoint["hyper_parameters"] = {"task": "single_label", **arguments}
    checkpoint["state_dict"] = {
        f"network.{key.replace('base.', 'backbone.', 1)}" if key.startswith("base.") else f"network.{key}": value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(("base.", "head."))
    }
    checkpoint[VERSION_KEY] = "0.1"


def check_resumable(checkpoint: Mapping[str, Any], path: object) -> None:
    """Refuse to resume a run of version 0.1, whose callbacks kept other states.

    Raises:
        ModuleError: So it is; says how to continue from its weights.
    """
    if checkpoint.get(VERSION_KEY, "0.1") == "0.1":
        raise ModuleError(
            f"{path} was saved by lightning-transfer 0.1, whose runs this version tests but does not resume: "
            f"begin a new run with init_from={path} (--model.init_from), or resume with 0.1."
        )


def load_part(
    module: nn.Module, checkpoint: Mapping[str, Any], part: str, path: str, assign: bool = False
) -> None:
    """Load one part of a checkpoint's weights into a module.

    Args:
        module: Which.
        checkpoint: As read.
        part: The part's prefix in the checkpoint's keys, such as "network.head".
        path: Of the checkpoint, for the error.
        assign: Take the checkpoint's tensors instead of copying them.

    Raises:
        ModuleError: The shapes differ.
    """
    try:
        module.load_state_dict(part_of(checkpoint, part), assign=assign)
    except RuntimeError as error:
        name, reason = part.rpartition(".")[2], " ".join(str(error).split())
        raise ModuleError(f"The {name} in {path} does not fit: {reason}{advice_if_newer(checkpoint)}") from error


def check_same_backbone(backbone: nn.Module, checkpoint: Mapping[str, Any], path: str) -> None:
    """Check that a checkpoint's head was trained on the features of this backbone.

    Raises:
        ModuleError: The backbone in the checkpoint has other weights.
    """
    ours = backbone.state_dict()
    theirs = part_of(checkpoint, "network.backbone")
    if ours.keys() != theirs.keys() or any(not torch.equal(ours[key], theirs[key]) for key in ours):
        raise ModuleError(
            f"The head in {path} was trained on a backbone with other weights "
            f"(weights={checkpoint['pretrained_weights']!r}): pass the same, or init_from={path}, which takes "
            "backbone and head."
        )


def part_of(checkpoint: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """Return the weights of one part of a checkpoint, under the names that they have within it."""
    prefix = f"{part}."
    return {key.removeprefix(prefix): v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
