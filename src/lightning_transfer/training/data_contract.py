"""What a module asks of its data module, and whether the two fit.

A data module may tell, once it is set up: `num_classes`, `class_names`, `image_size`, `resize`, `multi_label`,
`max_pixels`, `bit_depth`, `class_counts(split)`, `num_samples(split)`; and, where its batches are stored features,
`last_stage` and `backbone_fingerprint`. What it does not tell is not compared.

Shapes: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.network import HEAD
from lightning_transfer.training.task import Task, TaskName

ClassNames = tuple[str, ...]
# How a data module decodes files, by its attributes. A checkpoint records it, so that what was trained on can be
# predicted without saying it again. Each is a whole number, or None for the decoder's own.
DECODING = ("max_pixels", "bit_depth")


def task_of(data: Any) -> TaskName | None:
    """Return the data's task; None where they do not tell."""
    several = getattr(data, "multi_label", None)
    return None if several is None else "multi_label" if several else "single_label"


def sizes_of(data: Any, given: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of classes and the image size: those given, else the data's.

    Raises:
        ModuleError: Neither says.
    """
    known: dict[str, Any] = {
        name: given[name] or getattr(data, name, None) for name in ("num_classes", "image_size")
    }
    if unknown := [name for name, value in known.items() if value is None]:
        raise ModuleError(
            f"{' and '.join(unknown)} not given, and no data module says: pass {unknown[0]}=…, or use a data "
            "module that has it, as those of this library do once a Trainer has set them up."
        )
    return known["num_classes"], known["image_size"]


def check_agreement(data: Any, arguments: Mapping[str, Any]) -> None:
    """Compare the data with a module's arguments.

    Raises:
        ModuleError: They contradict each other; names both values.
    """
    names = getattr(data, "class_names", None)
    for name in ("num_classes", "image_size"):
        theirs, ours = getattr(data, name, None), arguments[name]
        if theirs is not None and theirs != ours:
            listed = f" ({', '.join(names)})" if names and name == "num_classes" else ""
            raise ModuleError(
                f"The data have {name}={theirs}{listed}, the model {name}={ours}: pass the same to both, or leave "
                "the model's out."
            )
    task = task_of(data)
    if task is not None and arguments["task"] not in (None, task):
        raise ModuleError(f"The data are {task}, the model has task={arguments['task']!r}: leave task out.")


def checked_names(data: ClassNames | None, checkpoint: ClassNames | None) -> ClassNames | None:
    """Return the class names that data and checkpoint agree on.

    Raises:
        ModuleError: They do not; names both.
    """
    if data is None or checkpoint is None:
        return data or checkpoint
    if tuple(data) != tuple(checkpoint):
        raise ModuleError(
            f"The data have the classes {', '.join(data)}, the checkpoint {', '.join(checkpoint)}: name the "
            "folders as they were in training."
        )
    return tuple(data)


def decoding_of(data: Any, known: Mapping[str, Any]) -> dict[str, int]:
    """Return how images are decoded: as the data say, else as is known, which may be a checkpoint.

    >>> decoding_of(None, {"class_names": ("cat", "dog"), "max_pixels": 100, "bit_depth": None})
    {'max_pixels': 100}
    """
    if getattr(data, "max_pixels", None) is not None:
        known = {name: getattr(data, name, None) for name in DECODING}
    return {name: known[name] for name in DECODING if known.get(name) is not None}


def input_stage(data: Any, backbone: Backbone) -> str | None:
    """Return the stage at which the data's batches enter the network; None for images.

    Raises:
        BackboneError: The backbone has no such stage.
        ModuleError: The features were stored by a backbone with other weights.
    """
    last_stage = getattr(data, "last_stage", None)
    if last_stage is None:
        return None
    later = backbone.stage_names[backbone.stage_index(last_stage) + 1 :]
    prefix = backbone.split(later[0])[0] if later else backbone
    if prefix.fingerprint() != data.backbone_fingerprint:
        raise ModuleError(
            f"The stored features of {last_stage} come from a backbone with other weights than this "
            f"{backbone.name}: extract them with this one, or pass the weights that they were made with."
        )
    return later[0] if later else HEAD


def balance(task: Task, data: Any) -> None:
    """Weigh the classes of a task by the training data's class counts.

    Raises:
        ModuleError: The data do not tell them.
    """
    counts = getattr(data, "class_counts", None)
    if counts is None:
        raise ModuleError(
            'class_weights="balanced" needs a data module with class_counts(split), as those of this library '
            "have: "
            "pass one, or a weight for each class."
        )
    classes = counts("train")
    samples = getattr(data, "num_samples", None)
    task.balance(classes, sum(classes) if samples is None else samples("train"))
