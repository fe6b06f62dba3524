"""Checkpoints that are whole or not there, whatever happens while they are saved."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_transfer.errors import OutputError
from lightning_transfer.training.checkpoints import between_epochs, read_checkpoint
from lightning_transfer.training.sidecar import sidecar_line, sidecar_of
from lightning_transfer.utils.files import sync


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves so that a kill or a full disk, at whatever moment, leaves the checkpoint that was there before.

    A checkpoint is written beside its target, brought to the disk, and then renamed. (Lightning's own way goes by
    $TMPDIR; where that is another file system, the old checkpoint is gone while the new one is copied.) Beside it
    lies `<name>.sha256`, the digest by which one that is truncated or changed later is refused when it is loaded.
    That file goes before the new checkpoint takes its place and comes back after it, so that it is never of
    another; what was killed in between has none, and is taken as it is.

    Loading runs no code that a file may hold, unless it is asked to by `weights_only=False`.

    The modules and the command line of this library bring it along. For others:

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(plugins=[AtomicCheckpointIO()], accelerator="cpu", logger=False)

    Attributes:
        resumable: The newest file that this run has saved between two epochs, from where a run goes on exactly.
    """

    def __init__(self) -> None:
        self.resumable: Path | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Saves to a file; Lightning's own way where the path is no file of this machine.

        Raises:
            OutputError: It cannot be written; names it. What was there before is as it was.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, content.getbuffer())
        except OSError as error:
            raise OutputError(
                f"The checkpoint {target} cannot be saved ({error.strerror}). What was saved before is whole: "
                "make room, or pass a folder that can be written to, and go on from there."
            ) from error
        if "loops" in checkpoint and between_epochs(checkpoint):
            self.resumable = target

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint, onto the CPU where nothing else is asked for.

        Raises:
            ModuleError: It is not there, truncated, changed since it was saved, or not readable; names it.
        """
        safely = weights_only is not False
        if "://" in str(path) and not str(path).startswith("http"):
            return super().load_checkpoint(path, map_location, safely)
        return read_checkpoint(str(path), map_location or "cpu", safely)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint, and what lies beside it first."""
        if "://" not in str(path):
            sidecar_of(Path(path)).unlink(missing_ok=True)
        super().remove_checkpoint(path)
        if self.resumable == Path(path):
            self.resumable = None


def save_atomically(trainer: Trainer) -> None:
    """Gives a Trainer `AtomicCheckpointIO`, unless somebody has given it another than Lightning's default."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def check_folders(trainer: Trainer) -> None:
    """Looks before the first epoch, and not after it, whether checkpoints can be saved.

    Raises:
        OutputError: They cannot; names the folder.
    """
    for callback in trainer.checkpoint_callbacks:
        folder = callback.dirpath if isinstance(callback, ModelCheckpoint) else None
        if folder is None or "://" in str(folder) or not trainer.is_global_zero:
            continue
        nearest = next(parent for parent in (Path(folder), *Path(folder).parents) if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise OutputError(f"Checkpoints are to be saved in {folder}, but {nearest} cannot be written to.")


def _replace(target: Path, content: memoryview) -> None:
    sidecar = sidecar_of(target)
    for name in (target.name, sidecar.name):
        for left in target.parent.glob(f".{escape(name)}.*.part"):
            left.unlink(missing_ok=True)  # by a save that was killed
    # Both are on the disk before anything is replaced, so that a full one is noticed in time.
    with _beside(target, content) as new, _beside(sidecar, sidecar_line(target, content)) as note:
        sidecar.unlink(missing_ok=True)
        sync(target.parent)
        new.replace(target)
        sync(target.parent)
        note.replace(sidecar)


@contextmanager
def _beside(target: Path, content: bytes | memoryview) -> Iterator[Path]:
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    finally:
        beside.unlink(missing_ok=True)
