"""Whether a store's arrays are still those that were published.

Whenever a store is opened, each array's size is looked at, and its first bytes, which say type and shape. All of
its bytes are read, and their sha256 compared with the manifest's, when it is opened for the first time where it
lies: then a note beside the arrays keeps size, time of change and inode of each, and as long as these stay,
nothing is read again. So a store that was copied, or in which something was written, is read once more; where the
note cannot be written, each opening reads. What a disk turns over with nobody writing, only `lightning-transfer
verify` finds.

Reading costs a second for 1 to 2 GB, or what the disk takes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lightning_transfer.features.manifest import Manifest, damaged

NOTE = "verified.json"
LONG = 1_000_000_000  # bytes, from which on progress is shown
CHUNK = 1 << 22
TICK = 0.02  # seconds; the system's clock for files goes in steps of up to half of that


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Takes the sha256 of each array of a finished store.

    Args:
        folder: Where the arrays are.
        manifest: What they hold.

    Returns:
        The manifest, with them.

    Raises:
        OSError: An array cannot be read.
    """
    states = {split: (folder / f"{split}.npy").stat() for split in manifest.splits}
    with _progress(folder, manifest) as advance:
        digests = {split: _digest(folder / f"{split}.npy", advance) for split in manifest.splits}
    sealed = replace(manifest, sha256=digests)
    _note(folder, sealed, states)
    return sealed


def check_arrays(folder: Path, manifest: Manifest, anew: bool = False) -> None:
    """Looks at all arrays of a store, and reads them where that was not done before.

    Args:
        folder: The store's.
        manifest: Its own.
        anew: Read them in any case.

    Raises:
        StoreError: An array is missing, cannot be read, or is not the one that was published; names its file.
    """
    states = {split: check_array(folder, manifest, split) for split in manifest.splits}
    if not anew and _is_noted(folder, manifest, states):
        return
    with _progress(folder, manifest) as advance:
        for split, wanted in manifest.sha256.items():
            file = folder / f"{split}.npy"
            try:
                digest = _digest(file, advance)
            except OSError as error:
                raise damaged(file, f"cannot be read: {error.strerror}") from error
            if digest != wanted:
                raise damaged(file, f"has changed since it was made (its sha256 is {digest}, wanted {wanted})")
    _note(folder, manifest, states)


def check_array(folder: Path, manifest: Manifest, split: str) -> os.stat_result:
    """Looks at size and beginning of one array.

    Returns:
        What the system says of the file.

    Raises:
        StoreError: They are not what the manifest says.
    """
    file, size, header = folder / f"{split}.npy", manifest.file_bytes(split), manifest.header(split)
    try:
        if not file.is_file():
            raise damaged(file, f"is missing, wanted {size:,} bytes")
        with file.open("rb") as opened:
            state = os.fstat(opened.fileno())
            if state.st_size != size:
                raise damaged(file, f"has {state.st_size:,} bytes, wanted {size:,} bytes")
            if opened.read(len(header)) != header:
                raise damaged(file, f"does not begin as {manifest.shape(split)} {manifest.dtype} does")
    except OSError as error:
        raise damaged(file, f"cannot be read: {error.strerror}") from error
    return state


@contextmanager
def _progress(folder: Path, manifest: Manifest) -> Iterator[Callable[[int], None]]:
    """Gives what is to be told how many bytes were read."""
    columns = (TextColumn("sha256 of {task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(
        *columns,
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=manifest.num_bytes() < LONG,
    ) as bar:
        yield partial(bar.advance, bar.add_task(folder.name, total=manifest.num_bytes()))


def _digest(file: Path, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def _text(manifest: Manifest, states: Mapping[str, os.stat_result]) -> bytes:
    arrays = {
        split: {"sha256": manifest.sha256[split], "size": s.st_size, "mtime_ns": s.st_mtime_ns, "inode": s.st_ino}
        for split, s in states.items()
    }
    return json.dumps(arrays, indent=1).encode()


def _note(folder: Path, manifest: Manifest, states: Mapping[str, os.stat_result]) -> None:
    """Keeps that arrays of these states have the manifest's sha256; half a note is none."""
    try:
        for _ in range(2):
            (folder / NOTE).write_bytes(_text(manifest, states))
            if _is_noted(folder, manifest, states):
                return
            time.sleep(TICK)
    except OSError:
        pass  # a folder that cannot be written, or a full disk: the next opening reads again


def _is_noted(folder: Path, manifest: Manifest, states: Mapping[str, os.stat_result]) -> bool:
    try:
        written = (folder / NOTE).stat().st_mtime_ns
        # What is changed within the clock's step in which it was read would look the same.
        later = all(state.st_mtime_ns < written for state in states.values())
        return later and (folder / NOTE).read_bytes() == _text(manifest, states)
    except OSError:
        return False
