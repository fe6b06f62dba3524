"""Whether a training loader leaves out its last batch: one image alone, before BatchNorm layers that train."""

from __future__ import annotations

from weakref import WeakSet

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_transfer.utils.batch_norm import has_batch_norm

_told: WeakSet[Trainer] = WeakSet()  # loaders may be made again in each epoch


def drops_last(trainer: Trainer | None, num_samples: int, batch_size: int) -> bool:
    """Return whether the last training batch is to be left out, and say so once.

    BatchNorm refuses a batch of one value a channel, and has no use for the statistics of one image. A module may
    tell by an attribute `trains_batch_norm`, as those of this library do; of others each BatchNorm layer counts.

    Args:
        trainer: Of the fit; None outside of one.
        num_samples: N, of all processes.
        batch_size: B, of each process.
    """
    module = None if trainer is None else trainer.lightning_module
    if trainer is None or module is None:
        return False
    own = -(-num_samples // trainer.world_size)  # each process has as many
    if own <= batch_size or own % batch_size != 1 or not _trains_batch_norm(module):
        return False
    if trainer not in _told:
        _told.add(trainer)
        rank_zero_info(
            f"The last batch of each training epoch is left out: it would be 1 image (of {own:,}, with batch_size="
            f"{batch_size}), and BatchNorm layers that train need two or more."
        )
    return True


def _trains_batch_norm(module: LightningModule) -> bool:
    told = getattr(module, "trains_batch_norm", None)
    return has_batch_norm(module) if told is None else bool(told)
