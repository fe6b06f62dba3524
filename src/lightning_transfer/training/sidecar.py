"""The digest that lies beside a checkpoint, by which one that was truncated or changed is known."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lightning_transfer.errors import ModuleError


def sidecar_of(path: Path) -> Path:
    """Where the digest of a file lies.

    >>> sidecar_of(Path("checkpoints/last.ckpt")).name
    'last.ckpt.sha256'
    """
    return path.with_name(f"{path.name}.sha256")


def sidecar_line(path: Path, content: bytes | memoryview) -> bytes:
    """What the sidecar of a file with this content says, as `sha256sum` writes it and `sha256sum -c` reads it."""
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode()


def check_sidecar(path: Path) -> None:
    """Compares a file with its sidecar, where there is one; a file that came without it is taken as it is.

    Args:
        path: A file; of a link it is the file it leads to, and the sidecar beside that.

    Raises:
        ModuleError: The sidecar is of something else; names the file.
    """
    path = path.resolve()
    noted = _read(sidecar_of(path))
    while noted is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if noted[:64] == found.encode():
            return
        before, noted = noted, _read(sidecar_of(path))
        if noted == before:  # else another process has saved in between
            raise ModuleError(
                f"{path} is truncated or was changed after it was saved: its sha256 is {found}, and "
                f"{sidecar_of(path).name} has another. Take an earlier checkpoint or a copy; if you changed "
                "it yourself, remove that file."
            )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
