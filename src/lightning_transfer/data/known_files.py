"""What is known of some files without reading them again: size and times, the end, the digest, whether it decodes.

Shapes: N files.
"""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_transfer.errors import DataError
from lightning_transfer.utils.files import sha256_of

TAIL = 1024  # bytes; most files of the same size already differ in their last ones
READ = 1 << 32  # marks the checksum of an end, which may be 0


class KnownFiles:
    """Some files below a root, each looked at once; what is asked about their content is read only if need be.

    Args:
        root: The folder.
        paths: N files below it.

    Attributes:
        stamps: (N, 3) int64: size, and the times of the last changes of content and of anything, in ns; -1 for a
            file that is not there. Nobody can set the last, which changes also where a copy keeps the others.
        tails: (N,) int64, a checksum of the last bytes; 0 where they have not been read.
        digests: sha256 by position, of those that were read as a whole.
        defects: Why it cannot be decoded, by position, or "" if it can; of those that were decoded.
        has_news: Whether anything was read since they were recalled.
    """

    def __init__(self, root: Path, paths: tuple[str, ...]) -> None:
        self.root = root
        self.paths = paths
        self.stamps = _stamps(root, paths)
        self.tails = np.zeros(len(paths), np.int64)
        self.digests: dict[int, bytes] = {}
        self.defects: dict[int, str] = {}
        self.has_news = False

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(N,) int64, in bytes.

        Raises:
            DataError: A file is not there.
        """
        for position in np.flatnonzero(self.stamps[:, 0] < 0).tolist():
            path = self.root / self.paths[position]
            try:
                path.stat()
            except OSError as error:
                raise _unreadable(path, error) from error
            raise DataError(f"{path} was not there a moment ago: wait until the images are complete.")
        return self.stamps[:, 0]

    def read_tails(self, positions: NDArray[np.int64]) -> None:
        """Read the ends of some files, unless they are known.

        Raises:
            DataError: One cannot be read.
        """
        wanted = positions[self.tails[positions] == 0]
        if not len(wanted):
            return
        self.has_news = True
        ends = np.maximum(self.sizes[wanted] - TAIL, 0).tolist()
        top = os.open(self.root, os.O_RDONLY)
        try:
            for position, start in zip(wanted.tolist(), ends, strict=True):
                try:
                    file = os.open(self.paths[position], os.O_RDONLY | os.O_CLOEXEC, dir_fd=top)
                    try:
                        self.tails[position] = READ | zlib.crc32(os.pread(file, TAIL, start))
                    finally:
                        os.close(file)
                except OSError as error:
                    raise _unreadable(self.root / self.paths[position], error) from error
        finally:
            os.close(top)

    def note_defects(self, defects: dict[int, str]) -> None:
        """Note which files were decoded, and what came of it: the defect by position, "" for none."""
        self.defects |= defects
        self.has_news = self.has_news or bool(defects)

    def digest(self, position: int) -> bytes:
        """The sha256 of a file.

        Raises:
            DataError: It cannot be read.
        """
        if position not in self.digests:
            self.has_news = True
            path = self.root / self.paths[position]
            try:
                self.digests[position] = bytes.fromhex(sha256_of(path))
            except OSError as error:
                raise _unreadable(path, error) from error
        return self.digests[position]


def _stamps(root: Path, paths: Sequence[str]) -> NDArray[np.int64]:
    stamps = array("q")
    stat, add = os.stat, stamps.extend
    top = os.open(root, os.O_RDONLY)
    try:
        for path in paths:
            try:
                seen = stat(path, dir_fd=top)
                add((seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
            except OSError:
                add((-1, -1, -1))
    finally:
        os.close(top)
    return np.frombuffer(stamps, np.int64).reshape(-1, 3)


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error}): give access to it, or remove it.")
