"""Checks of the arguments of data modules and of what decodes for them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from lightning_transfer.errors import DataError

Choice = TypeVar("Choice")


def positive(name: str, value: int) -> int:
    """Return a number that must be 1 or more.

    Raises:
        DataError: It is less; names the argument.

    >>> positive("batch_size", 20)
    20
    """
    if value < 1:
        raise DataError(f"{name}={value}: wanted a whole number, 1 or more.")
    return value


def one_of(name: str, value: Choice, choices: Collection[Choice]) -> Choice:
    """Return a value that must be one of some.

    Raises:
        DataError: It is none of them; names the argument and lists them.

    >>> one_of("resize", "crop", ("squash", "crop"))
    'crop'
    """
    if value not in choices:
        raise DataError(f"{name}={value!r}: wanted one of {', '.join(map(str, choices))}.")
    return value
