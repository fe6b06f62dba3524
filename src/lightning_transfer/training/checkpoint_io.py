"""A checkpoint on disk: saved whole or not at all, and refused when it was changed later."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_transfer.errors import ModuleError, OutputError
from lightning_transfer.models.weights import UNREADABLE
from lightning_transfer.utils.files import remove_parts, sha256_of, sync, whole_file

# How torch names what it does not unpickle.
NOT_PLAIN = re.compile(r"Unsupported (?:global|class|operand)\S* (?:GLOBAL )?([\w.]+)")
# Marks a file of weights alone, by which Lightning hands a module back from the processes that trained it.
BARE = "lightning_transfer_weights_alone"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Save so that a kill or a full disk, at any moment, leaves the checkpoint that was there before.

    A checkpoint is written beside its target, flushed to disk, and then renamed. (Lightning's own way goes by
    $TMPDIR; where that is another file system, the old checkpoint is gone while the new one is copied.) Beside it
    is `<name>.sha256`, by which a checkpoint that was truncated or changed later is refused when it is loaded.
    That file is removed before the new checkpoint is renamed and written after it, so that it never belongs to
    another one; a save that was killed in between leaves none, and such a checkpoint is loaded without that check.

    Loading runs no code that a file may hold, unless `weights_only=False` asks for it.

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(plugins=[AtomicCheckpointIO()], accelerator="cpu", logger=False)

    Attributes:
        resumable: The newest file that this run has saved between two epochs, from which a run resumes exactly.
    """

    def __init__(self) -> None:
        self.resumable: Path | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Save to a file; Lightning's own way where the path is not a local file.

        Raises:
            OutputError: The file cannot be written; names it. The checkpoint before it is unchanged.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target, content = Path(path), io.BytesIO()
        torch.save(checkpoint if "state_dict" in checkpoint else {BARE: True, "state_dict": checkpoint}, content)
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
        """Read a checkpoint, onto the CPU by default.

        Raises:
            ModuleError: It is missing, truncated, changed since it was saved, or not readable; names it.
        """
        safely = weights_only is not False
        if "://" in str(path) and not str(path).startswith("http"):
            return super().load_checkpoint(path, map_location, safely)
        checkpoint = read_checkpoint(str(path), map_location or "cpu", safely)
        return checkpoint["state_dict"] if BARE in checkpoint else checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its sha256 file."""
        if "://" not in str(path):
            sidecar_of(Path(path)).unlink(missing_ok=True)
        super().remove_checkpoint(path)
        if self.resumable == Path(path):
            self.resumable = None


def _replace(target: Path, content: memoryview) -> None:
    sidecar = sidecar_of(target)
    for file in (target, sidecar):
        remove_parts(file)
    # The target is renamed first, the sidecar after it; both are on disk before, so that a full disk is noticed.
    with whole_file(sidecar) as note, whole_file(target) as new:
        new.write_bytes(content)
        # As `sha256sum` writes it and `sha256sum -c` reads it.
        note.write_text(f"{hashlib.sha256(content).hexdigest()}  {target.name}\n")
        sync(note)
        sidecar.unlink(missing_ok=True)


def save_atomically(trainer: Trainer) -> None:
    """Give a Trainer `AtomicCheckpointIO`, unless it has another one than Lightning's default."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def check_folders(trainer: Trainer) -> None:
    """Check before the first epoch that checkpoints can be saved.

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


def sidecar_of(path: Path) -> Path:
    """The file that holds a checkpoint's sha256.

    >>> sidecar_of(Path("checkpoints/last.ckpt")).name
    'last.ckpt.sha256'
    """
    return path.with_name(f"{path.name}.sha256")


def check_file(path: str) -> None:
    """Check a checkpoint's file without reading what is in it.

    Raises:
        ModuleError: It is not a local file, it is missing, or it has changed since it was saved.
    """
    if "://" in path:
        raise ModuleError(
            f"{path} is not a local file, and checkpoints are read from nowhere else: download it from a source "
            "that you trust, and pass the file."
        )
    if not Path(path).is_file():
        raise ModuleError(f'There is no checkpoint {path}: wanted a file that fit saved, or "best" or "last".')
    file = Path(path).resolve()  # of a link, the sidecar is beside the file
    sidecar = sidecar_of(file)
    if sidecar.exists() and sidecar.read_bytes()[:64] != (found := sha256_of(file)).encode():
        raise ModuleError(
            f"{file} is truncated or was changed after it was saved: its sha256 is {found}, and {sidecar.name} "
            "has another. If a run is saving it right now, try again; otherwise take an earlier checkpoint or a "
            "copy. If you changed it yourself, remove that file."
        )


def read_checkpoint(path: str, map_location: Any = "cpu", weights_only: bool = True) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running code that may be in it.

    Args:
        path: A file of this machine.
        map_location: Another device; as `torch.load` takes it.
        weights_only: Always passed on, so that no environment variable changes it.

    Raises:
        ModuleError: There is no such file, it has changed since it was saved, or it cannot be read.
    """
    check_file(path)
    try:
        checkpoint: Any = torch.load(path, map_location=map_location, weights_only=weights_only)
    except (*UNREADABLE, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if other := NOT_PLAIN.search(str(error)):
            reason = (
                f"it holds {other[1]}, and only tensors and plain values are read, so that no code in it runs: a "
                "class's own arguments have to be numbers, strings, lists or dicts of them"
            )
        raise ModuleError(
            f"{path} cannot be read as a checkpoint ({reason}): wanted a file that fit saved."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ModuleError(f"{path} is no checkpoint but something else: wanted a file that fit saved.")
    return checkpoint


def between_epochs(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint was saved between epochs, their validation included.

    From anywhere else Lightning goes on with the batches of the epoch's beginning, and leaves out hooks and
    scheduler steps (https://github.com/Lightning-AI/pytorch-lightning/issues/21901).
    """
    if "loops" not in checkpoint:
        return True  # weights alone, which Lightning refuses to go on from
    loop = checkpoint["loops"]["fit_loop"]
    epochs = loop["epoch_progress"]["total"]
    if epochs["started"] == epochs["processed"]:
        return True
    batches = loop["epoch_loop.batch_progress"]
    validation = loop["epoch_loop.val_loop.batch_progress"]
    return bool(
        batches["is_last_batch"]
        and batches["total"]["completed"] == batches["total"]["processed"]
        and validation["is_last_batch"]
        and validation["current"]["completed"] == validation["current"]["ready"]
    )
