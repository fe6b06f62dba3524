"""Whether a module has layers whose statistics are a batch's."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether a module is or contains BatchNorm, of any number of dimensions, or SyncBatchNorm.

    >>> has_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), has_batch_norm(nn.LayerNorm(2))
    (True, False)
    """
    return any(isinstance(part, _BatchNorm) for part in module.modules())
