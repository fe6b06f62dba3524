"""A folder that is made once: whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from lightning_transfer.errors import DataError
from lightning_transfer.utils.locking import locked


def build_once(root: Path, is_built: Callable[[], bool], build: Callable[[Path], None], wanted: str) -> None:
    """Makes a folder where it is not there yet; of several processes one makes it, and the others wait.

    Args:
        root: Where it shall be.
        is_built: Whether it is there, complete.
        build: Fills a folder beside `root`, which is then moved into place.
        wanted: What `root` should hold, for the error.

    Raises:
        DataError: Something else lies at `root`; or the folder cannot be written.
    """
    if is_built():
        return
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(root.parent / f".{root.name}.lock"):
            # Another process may have made it while this one waited.
            if not is_built():
                _refuse_if_occupied(root, wanted)
                _build(root, build)
    except OSError as error:
        raise DataError(f"{root} cannot be made ({error}): pass another root.") from error


def usable_cores() -> int:
    """Cores of the processor that this process may use.

    >>> usable_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _refuse_if_occupied(root: Path, wanted: str) -> None:
    if root.is_file() or (root.is_dir() and any(root.iterdir())):
        raise DataError(
            f"{root} is there, but not as wanted: {wanted}. Pass another root, or remove it to have it made anew."
        )


def _build(root: Path, build: Callable[[Path], None]) -> None:
    prefix = f".{root.name}.staging-"
    for entry in root.parent.iterdir():
        if entry.name.startswith(prefix):  # left by a process that was killed
            shutil.rmtree(entry)
    staging = root.with_name(f"{prefix}{os.getpid()}")
    try:
        build(staging)
        if root.exists():
            root.rmdir()
        staging.rename(root)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
