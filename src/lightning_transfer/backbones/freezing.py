"""Freezing and thawing a module, completely."""

from __future__ import annotations

from torch import nn


def freeze(module: nn.Module) -> None:
    """Makes a module a constant: no gradients, and eval mode all through.

    Eval mode matters as much as `requires_grad`: a BatchNorm layer in training mode normalises with the batch's
    statistics and lets its running ones drift, whether its parameters train or not.

    >>> layer = nn.BatchNorm2d(3)
    >>> freeze(layer)
    >>> layer.training, layer.weight.requires_grad
    (False, False)
    """
    module.requires_grad_(False)
    module.eval()


def unfreeze(module: nn.Module) -> None:
    """Undoes `freeze`: gradients, and training mode all through."""
    module.requires_grad_(True)
    module.train()
