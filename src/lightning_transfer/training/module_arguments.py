"""Checks of a module's arguments, at construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from lightning_transfer.errors import ModuleError
from lightning_transfer.models.pooling import Pool
from lightning_transfer.training.checkpoints import ORIGINS
from lightning_transfer.training.task import SCORES, TASKS
from lightning_transfer.utils.arguments import number, one_of, path_text, shown, whole_number


def checked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's arguments as plain values, which checkpoints can hold; others stay as they are.

    Raises:
        ModuleError: One is out of range or of another type; names it.

    >>> checked({"lr": 1, "num_classes": None})
    {'lr': 1.0, 'num_classes': None}
    >>> checked({"lr": "1e-4"})
    Traceback (most recent call last):
    lightning_transfer.errors.ModuleError: lr='1e-4': wanted a number from 0.
    """
    found = dict(arguments)
    for name, check in CHECKS.items():
        if found.get(name) is not None or (name in found and name not in OPTIONAL):
            found[name] = check(name, found[name])
    if found.get("head_from") and found.get("init_from"):
        raise ModuleError("head_from and init_from are both given: init_from brings the head along.")
    return found


def _number(**limits: float) -> Callable[[str, Any], float]:
    return lambda name, value: number(name, value, error=ModuleError, **limits)


def _whole(least: int) -> Callable[[str, Any], int]:
    return lambda name, value: whole_number(name, value, least, ModuleError)


def _choice(*choices: str) -> Callable[[str, Any], str]:
    return lambda name, value: one_of(name, value, choices, ModuleError)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ModuleError(f"{name}={shown(value)}: wanted a name, a string.")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ModuleError(f"{name}={shown(value)}: wanted True or False.")
    return value


def _options(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ModuleError(f"{name}={shown(value)}: wanted a dict of argument names and values.")
    return dict(value)


def _weights_of_classes(name: str, value: Any) -> str | list[float]:
    if isinstance(value, str):
        return _choice("balanced")(name, value)
    try:
        return [_number(least=0)(name, part) for part in value]
    except TypeError:
        raise ModuleError(f'{name}={shown(value)}: wanted "balanced", or a number for each class.') from None


def _path(name: str, value: Any) -> str:
    return path_text(name, value, ModuleError)


OPTIONAL = {
    *ORIGINS,
    "last_stage",
    "num_classes",
    "image_size",
    "optimizer_options",
    "scheduler",
    "scheduler_options",
    "class_weights",
    "task",
}
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "backbone": _text,
    **dict.fromkeys(ORIGINS, _path),
    "last_stage": _text,
    "num_classes": _whole(1),
    "image_size": _whole(1),
    "pool": _choice(*get_args(Pool)),
    "hidden": _whole(0),
    "dropout": _number(least=0, below=1),
    "lr": _number(least=0),
    "layer_decay": _number(above=0, most=1),
    "weight_decay": _number(least=0),
    "optimizer": _text,
    "optimizer_options": _options,
    "warmup_steps": _whole(0),
    "scheduler": _text,
    "scheduler_options": _options,
    "scheduler_monitor": _choice(*(f"validation/{score}" for score in SCORES)),
    "label_smoothing": _number(least=0, below=1),
    "class_weights": _weights_of_classes,
    "task": _choice(*TASKS),
    "seed": _whole(0),
    "audit_freezing": _flag,
}
