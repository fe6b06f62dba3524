"""Freeze and unfreeze modules completely; parameter groups for a network that unfreezes stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

Stages = Mapping[str, nn.Module]


def freeze(module: nn.Module) -> None:
    """Make a module constant: no gradients, and eval mode throughout.

    Eval mode matters as much as `requires_grad`: in training mode a BatchNorm layer normalises with the batch's
    statistics and updates its running ones, whether its parameters train or not.

    >>> layer = nn.BatchNorm2d(3)
    >>> freeze(layer)
    >>> layer.training, layer.weight.requires_grad
    (False, False)
    """
    module.requires_grad_(False)
    module.eval()


def unfreeze(module: nn.Module) -> None:
    """Undo `freeze`: gradients, and training mode throughout."""
    module.requires_grad_(True)
    module.train()


def is_trainable(module: nn.Module) -> bool:
    """Return whether any parameter of a module requires gradients.

    >>> layer = nn.Linear(3, 2)
    >>> freeze(layer)
    >>> is_trainable(layer)
    False
    """
    return any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode for a while; afterwards each submodule gets its own mode back."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


def parameter_groups(
    stages: Stages, lr: float, layer_decay: float = 1.0, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Make one named parameter group a stage, for any torch optimizer with weight decay.

    All groups exist from the start, frozen or not: adding one later breaks half of torch's learning-rate
    schedulers. Biases, norms and all other vectors are not decayed; they form a second group,
    "<stage>.no_decay".

    Args:
        stages: Names and modules, from the input to the output.
        lr: Learning rate of the last stage, commonly the head.
        layer_decay: Factor of the learning rate from each stage to the one before it.
        weight_decay: Of matrices and kernels.

    Returns:
        Groups with "name", "params", "lr" and "weight_decay", the stages in the order given.

    >>> stages = {"body": nn.Linear(3, 2, bias=False), "head": nn.Linear(2, 2)}
    >>> [(group["name"], group["lr"]) for group in parameter_groups(stages, lr=0.1, layer_decay=0.5)]
    [('body', 0.05), ('head', 0.1), ('head.no_decay', 0.1)]
    """
    groups: list[dict[str, Any]] = []
    for depth, (name, module) in zip(range(len(stages) - 1, -1, -1), stages.items(), strict=True):
        rate = lr * layer_decay**depth
        decayed = [parameter for parameter in module.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
        if decayed:
            groups.append({"name": name, "params": decayed, "lr": rate, "weight_decay": weight_decay})
        if vectors:
            groups.append({"name": f"{name}.no_decay", "params": vectors, "lr": rate, "weight_decay": 0.0})
    return groups
