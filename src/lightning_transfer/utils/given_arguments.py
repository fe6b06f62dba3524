"""The arguments that an object was made with, as plain values."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any


def given_arguments(instance: object, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return what the constructors of an object's classes took, from its attributes of the same names.

    Args:
        instance: Keeps each argument as an attribute of its name, with or without a leading underscore; what it
            does not keep is not returned.
        leave_out: Arguments to leave out.

    >>> from pathlib import Path
    >>> class Folder:
    ...     def __init__(self, root, shares=(0.5, 0.5)):
    ...         self.root, self._shares = Path(root), shares
    >>> given_arguments(Folder("images"))
    {'root': 'images', 'shares': [0.5, 0.5]}
    """
    found: dict[str, Any] = {}
    for cls in type(instance).__mro__[:-1]:
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name in leave_out:
                continue
            for attribute in (f"_{name}", name):
                if attribute in vars(instance):
                    found.setdefault(name, plain(vars(instance)[attribute]))
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON could hold it: paths as text, tuples as lists, dataclasses as dicts.

    >>> plain({"shares": (0.8, 0.2)})
    {'shares': [0.8, 0.2]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
