"""Checks of the arguments that people pass: each returns the value, plain, or raises an error that names both."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from numbers import Integral, Real
from textwrap import shorten
from typing import Any, TypeVar

from lightning_transfer.errors import DataError, TransferError

Choice = TypeVar("Choice")
Error = type[TransferError]


def positive(name: str, value: Any, error: Error = DataError) -> int:
    """Return a whole number that must be 1 or more.

    Raises:
        TransferError: It is less, or no whole number; of the class `error`.

    >>> positive("batch_size", 20)
    20
    """
    return whole_number(name, value, 1, error)


def whole_number(name: str, value: Any, least: int = 0, error: Error = DataError) -> int:
    """Return a whole number that must be `least` or more; numpy's become plain.

    Raises:
        TransferError: It is less, or no whole number; of the class `error`.

    >>> whole_number("seed", 0)
    0
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise error(f"{name}={shown(value)}: wanted a whole number, {least} or more.")
    return int(value)


def number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    error: Error = DataError,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite number within limits; numpy's become plain.

    Args:
        name: The argument's.
        value: What was passed.
        least: It must not be less.
        most: It must not be more.
        error: The class to raise.
        above: It must be more.
        below: It must be less.

    Raises:
        TransferError: It is out of the limits, or no number; of the class `error`.

    >>> number("dropout", 0, least=0, below=1)
    0.0
    """
    # NaN is within no limits, and what is no number becomes NaN.
    found = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
    fits = (
        math.isfinite(found)
        and (least is None or found >= least)
        and (above is None or found > above)
        and (most is None or found <= most)
        and (below is None or found < below)
    )
    if not fits:
        limits = {"from": least, "above": above, "up to": most, "below": below}
        said = "".join(f", {word} {limit:g}" for word, limit in limits.items() if limit is not None)
        said = said.replace(", up to", " to") if least is not None else said
        raise error(f"{name}={shown(value)}: wanted a number{said.removeprefix(',')}.")
    return found


def one_of(name: str, value: Choice, choices: Collection[Choice], error: Error = DataError) -> Choice:
    """Return a value that must be one of some.

    Raises:
        TransferError: It is none of them; of the class `error`, and lists them.

    >>> one_of("resize", "crop", ("squash", "crop"))
    'crop'
    """
    # By type too: 12.0 and True are equal to whole numbers, which are what is counted with.
    for choice in choices:
        if (
            isinstance(value, type(choice))
            and isinstance(value, bool) == isinstance(choice, bool)
            and value == choice
        ):
            return choice
    raise error(f"{name}={shown(value)}: wanted one of {', '.join(map(str, choices))}.")


def path_text(name: str, value: Any, error: Error = DataError) -> str:
    """Return a path as text, of a string or a `pathlib.Path`.

    Raises:
        TransferError: It is neither; of the class `error`.

    >>> from pathlib import Path
    >>> path_text("root", Path("data") / "pets")
    'data/pets'
    """
    found = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(found, str):
        raise error(f"{name}={shown(value)}: wanted a path, a string or a pathlib.Path.")
    return found


def text(name: str, value: Any, error: Error = DataError) -> str:
    """Return a string.

    Raises:
        TransferError: It is none; of the class `error`.

    >>> text("separator", "|")
    '|'
    """
    if not isinstance(value, str):
        raise error(f"{name}={shown(value)}: wanted a string.")
    return value


def flag(name: str, value: Any, error: Error = DataError) -> bool:
    """Return True or False.

    Raises:
        TransferError: It is neither; of the class `error`.

    >>> flag("use_cache", False)
    False
    """
    return bool(one_of(name, value, (True, False), error))


def instance(name: str, value: Any, kind: type[Choice], error: Error = DataError) -> Choice:
    """Return an object that must be of a class.

    Raises:
        TransferError: It is not; of the class `error`.

    >>> instance("steps", (1, 2), tuple)
    (1, 2)
    """
    if not isinstance(value, kind):
        raise error(f"{name}={shown(value)}: wanted an object of the class {kind.__name__}.")
    return value


def shown(value: object) -> str:
    """Return a value's repr for an error: in one line, shortened where it is long.

    >>> shown("64"), len(shown([1] * 100)) <= 80
    ("'64'", True)
    """
    return shorten(repr(value), 80, placeholder=" …")
