"""Keep what was read of a folder's images for the next start, by their sizes and times.

Shapes: N files.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lightning_transfer.data.known_files import KnownFiles
from lightning_transfer.utils.files import whole_file

FORMAT = 1
SETTLED = 2 * 10**9  # ns; a file that is changed twice in a shorter time may show the same time (FAT: 2 s)
UNUSED = 90 * 24 * 3600  # seconds until what nobody uses is removed
MAX_BYTES = 500_000_000  # of all roots together
# What numpy and zipfile raise for damaged files.
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def folder_of_caches() -> Path:
    """Where the caches of all roots lie: `lightning-transfer/scan` in `$XDG_CACHE_HOME` or `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "lightning-transfer", "scan")


def cache_of(root: Path) -> Path:
    """The cache of a root, by its real path."""
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()
    return folder_of_caches() / f"{name}.npz"


class ScanCache:
    """What earlier starts have read of a root's files.

    A file counts as unchanged where its size and both its times are the same. The cache can be removed at any
    time, and is ignored where it is damaged or cannot be written.

    Args:
        root: The folder.
        max_pixels: Largest H · W of a file; what was decoded under another limit is decoded again.
    """

    def __init__(self, root: Path, max_pixels: int) -> None:
        self.root = root
        self.path = cache_of(root)
        self.decoding = f"max_pixels {max_pixels}, Pillow {PIL.__version__}"
        self._looked = time.time_ns()

    def files(self, paths: tuple[str, ...]) -> KnownFiles:
        """Look at some files, and recall what is known of those that have not changed."""
        files = KnownFiles(self.root, paths)
        if (kept := self._kept()) is None:
            return files
        old, new = _same_paths(kept["paths"].tobytes(), paths)
        same = (kept["stamps"][old] == files.stamps[new]).all(axis=1) & (files.stamps[new, 0] >= 0)
        old, new = old[same], new[same]
        files.has_news = len(new) < len(files)
        files.tails[new] = kept["tails"][old]
        places = np.full(len(kept["stamps"]), -1)
        places[old] = new
        for position, digest in zip(places[kept["digested"]].tolist(), kept["digests"], strict=True):
            if position >= 0:
                files.digests[position] = digest.tobytes()
        about = json.loads(kept["about"].tobytes())
        if about["decoding"] == self.decoding:
            reasons = about["reasons"]
            decoded = zip(places[kept["decoded"]].tolist(), kept["defects"].tolist(), strict=True)
            files.defects |= {position: reasons[number] for position, number in decoded if position >= 0}
        return files

    def keep(self, files: KnownFiles) -> None:
        """Keep what is known of some files, in place of what was kept before, if there is anything new."""
        if not files.has_news:
            return
        settled = files.stamps[:, 1:].max(axis=1) < self._looked - SETTLED
        reasons = sorted(set(files.defects.values()))
        about = {"format": FORMAT, "decoding": self.decoding, "reasons": reasons}
        number = {reason: i for i, reason in enumerate(reasons)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path) as beside, beside.open("wb") as file:
                np.savez(
                    file,
                    paths=np.frombuffer(_text(files.paths), np.uint8),
                    stamps=np.where(settled[:, None], files.stamps, -1),
                    tails=files.tails,
                    digested=np.array(list(files.digests), np.int64),
                    digests=np.frombuffer(b"".join(files.digests.values()), np.uint8).reshape(-1, 32),
                    decoded=np.array(list(files.defects), np.int64),
                    defects=np.array([number[reason] for reason in files.defects.values()], np.int64),
                    about=np.frombuffer(json.dumps(about).encode(), np.uint8),
                )
            _tidy(self.path.parent)
        except OSError as error:
            rank_zero_info(f"What was found in {self.root} is not kept: {self.path} cannot be written ({error}).")
        files.has_news = False

    def _kept(self) -> dict[str, NDArray[Any]] | None:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                kept = {name: archive[name] for name in archive.files}
            _check(kept)
        except FileNotFoundError:
            return None
        except DAMAGED as error:
            rank_zero_info(f"{self.path} is damaged ({error}): the files of {self.root} are read again.")
            return None
        with suppress(OSError):
            os.utime(self.path)  # it is in use
        return kept


@contextmanager
def known_files(root: Path, paths: tuple[str, ...], cache: ScanCache | None) -> Iterator[KnownFiles]:
    """Look at some files, recall what is known of them, and keep in the end what was read; None keeps nothing."""
    if cache is None:
        yield KnownFiles(root, paths)
        return
    files = cache.files(paths)
    try:
        yield files
    finally:  # also where the images are refused: they will be looked at again
        cache.keep(files)


def _text(paths: tuple[str, ...]) -> bytes:
    return "\0".join(paths).encode(errors="surrogateescape")


def _same_paths(kept: bytes, paths: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the same paths in what was kept and in what is there."""
    if kept == _text(paths):
        return np.arange(len(paths)), np.arange(len(paths))
    place = {path: i for i, path in enumerate(kept.decode(errors="surrogateescape").split("\0"))}
    old = np.fromiter((place.get(path, -1) for path in paths), np.int64, len(paths))
    new = np.flatnonzero(old >= 0)
    return old[new], new


def _check(kept: dict[str, NDArray[Any]]) -> None:
    """Refuse what this version would not have written."""
    total = len(kept["stamps"])
    about = json.loads(kept["about"].tobytes())
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']}, not {FORMAT}")
    shapes = {"stamps": (total, 3), "tails": (total,), "digests": (len(kept["digested"]), 32)}
    shapes["defects"] = kept["decoded"].shape
    whole = all(kept[name].shape == shape for name, shape in shapes.items())
    numbers = [(kept["digested"], total), (kept["decoded"], total), (kept["defects"], len(about["reasons"]))]
    inside = all(((found >= 0) & (found < limit)).all() for found, limit in numbers)
    if not (whole and inside and kept["paths"].tobytes().count(b"\0") == total - 1):
        raise ValueError("its parts do not fit each other")


def _tidy(folder: Path) -> None:
    """Remove what has not been used for long, and the oldest beyond the limit of size."""
    found = sorted(((path.stat(), path) for path in folder.glob("*.npz")), key=lambda pair: -pair[0].st_mtime)
    total = 0
    for seen, path in found:
        total += seen.st_size
        if time.time() - seen.st_mtime > UNUSED or total > MAX_BYTES:
            path.unlink(missing_ok=True)
