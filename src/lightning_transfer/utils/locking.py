"""One process at a time; those who wait say for what, and how long by now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

PATIENCE = 1.0  # seconds until one who waits says so, and again each time after twice as long


def acquire(lock: FileLock) -> None:
    """Takes a file lock, however long that takes; the system frees it when a process ends, however it ends."""
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
    """Holds the lock file `path`."""
    lock = FileLock(path)
    acquire(lock)
    try:
        yield
    finally:
        lock.release()
