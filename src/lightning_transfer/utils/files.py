"""Files and folders that are whole or not there: atomic writes, locks, sha256."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout
from rich.console import Console

from lightning_transfer.errors import DataError, OutputError

PATIENCE = 1.0  # seconds until a waiting process says so; it says so again each time the wait has doubled


def checked_output(path: str | Path, overwrite: bool) -> Path:
    """Check that a file may be written, before any work is done.

    Raises:
        OutputError: The file exists and `overwrite` is false, or its folder cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target} is a folder: wanted the name of a file to write.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} is there already: pass --overwrite to replace it, or another --out.")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist: make it first, or pass another --out.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder {folder} cannot be written to: pass another --out.")
    return target


def sha256_of(path: Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file to disk; for a folder, the names that were added and renamed in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a path beside the target to write to; on success it replaces the target, on failure it is removed."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield beside
        sync(beside)
        beside.replace(target)
        sync(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def remove_parts(target: Path) -> None:
    """Remove what killed processes have left of `whole_file(target)`; no other process may be writing it."""
    for part in target.parent.glob(f".{escape(target.name)}.*.part"):
        part.unlink(missing_ok=True)


def acquire(lock: FileLock) -> None:
    """Take a file lock, however long that takes; the system frees it when a process ends, however it ends."""
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    start, patience = time.monotonic(), PATIENCE
    while True:
        try:
            lock.acquire(timeout=patience)
            return
        except Timeout:
            patience = time.monotonic() - start
            console.print(
                f"Waiting for another process, which holds {lock.lock_file} ({patience:,.0f} s by now; it is free "
                "as soon as that process ends)"
            )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`."""
    lock = FileLock(path)
    acquire(lock)
    try:
        yield
    finally:
        lock.release()


def lock_of(path: Path) -> Path:
    """The lock file of a file or folder, beside it."""
    return path.with_name(f".{path.name}.lock")


def staging_of(path: Path) -> Path:
    """A new name beside a folder, to build it under; no other process or machine uses the same."""
    return path.with_name(f".{path.name}.staging-{uuid4().hex[:8]}")


def remove_staging(path: Path) -> None:
    """Remove the staging folders of `path` that killed processes have left; its lock must be held."""
    for entry in path.parent.iterdir():
        if entry.name.startswith(f".{path.name}.staging"):
            # It may belong to a machine that the lock does not reach: after a rename that one cannot publish it.
            with suppress(FileNotFoundError):
                shutil.rmtree(entry.rename(f"{entry}.old"), ignore_errors=True)


def build_folder(root: Path, is_built: Callable[[], bool], build: Callable[[Path], None], wanted: str) -> None:
    """Make a folder, whole or not at all, unless it is there; of several processes one makes it, the others wait.

    Args:
        root: The folder.
        is_built: Whether it is there, complete.
        build: Makes and fills the folder that it is given, which is then renamed to `root`.
        wanted: What `root` should hold, for the error message.

    Raises:
        DataError: Something else is at `root`, or the folder cannot be written.
    """
    if is_built():
        return
    staging = staging_of(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_of(root)):
            if is_built():  # by another process, while this one waited
                return
            if root.is_file() or (root.is_dir() and any(root.iterdir())):
                raise DataError(
                    f"{root} is there, but not as wanted: {wanted}. Pass another root, or remove it to have it "
                    "made again."
                )
            remove_staging(root)
            try:
                build(staging)
                if root.exists():
                    root.rmdir()
                staging.rename(root)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{root} cannot be made ({error}): pass another root.") from error
