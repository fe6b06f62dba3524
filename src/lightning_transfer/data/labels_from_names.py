"""Take the label of an image from its name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from lightning_transfer.errors import DataError
from lightning_transfer.utils.arguments import text

# Everything before the number at the end: cat.0.jpg is a cat, n02101006_Gordon_setter.JPEG what it says.
PATTERN = r"(.+?)[\W_]*\d*"


def label_in_name(path: str, pattern: str = PATTERN) -> str | None:
    """Return the label that a pattern finds in a file's name, without folder and suffix; None if it does not fit.

    Args:
        path: Of the image.
        pattern: A regular expression for the whole name; its first group is the label.

    Raises:
        DataError: It is no regular expression with a group.

    >>> [label_in_name(f"x/{name}") for name in ("cat.0.jpg", "n02101006_Gordon_setter.JPEG", "dog_12.png")]
    ['cat', 'n02101006_Gordon_setter', 'dog']
    """
    found = checked_pattern(pattern).fullmatch(PurePosixPath(path).stem)
    return found and found.group(1)


def checked_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression with a group.

    Raises:
        DataError: It is none.
    """
    try:
        compiled = re.compile(text("label_pattern", pattern))
    except re.error as error:
        raise DataError(f"label_pattern={pattern!r} is no regular expression ({error}).") from error
    if not compiled.groups:
        raise DataError(
            f"label_pattern={pattern!r}: wanted a group in brackets around the label, as in {PATTERN!r}."
        )
    return compiled
