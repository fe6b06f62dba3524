"""One process at a time; those who wait say for what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

PATIENCE = 1.0  # seconds until one who waits says so


def acquire(lock: FileLock) -> None:
    """Takes a file lock, however long that takes; the system frees it when a process ends, however it ends."""
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        console.print(f"Waiting for another process, which holds {lock.lock_file}")
        lock.acquire()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file `path`."""
    lock = FileLock(path)
    acquire(lock)
    try:
        yield
    finally:
        lock.release()
