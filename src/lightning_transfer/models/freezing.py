"""Freeze and unfreeze modules completely; parameter groups for a network that unfreezes stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

Stages = Mapping[str, nn.Module]
NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_FROZEN = "_made_constant"  # a module's attribute: the names of what `freeze` has changed in it


def freeze(module: nn.Module, parts: Iterable[nn.Module] | None = None, modes: bool = True) -> None:
    """Make a module constant: no gradients, and eval mode throughout.

    Eval mode matters as much as `requires_grad`: in training mode a BatchNorm layer normalises with the batch's
    statistics and updates its running ones, whether its parameters train or not.

    The module remembers what was not constant before, for `unfreeze`; that is in no `state_dict`, but in copies.

    Args:
        module: Which.
        parts: Only these, inside it; what they hold is found by identity, so they may be containers made for the
            moment.
        modes: Set eval mode, too.

    >>> layer = nn.BatchNorm2d(3)
    >>> freeze(layer)
    >>> layer.training, layer.weight.requires_grad
    (False, False)
    """
    whole = [module] if parts is None else list(parts)
    parameters = {id(parameter) for part in whole for parameter in part.parameters()}
    layers = {id(layer) for part in whole for layer in part.modules()} if modes else set()
    remembered = module.__dict__.setdefault(_FROZEN, {"parameters": set(), "layers": set()})
    for name, parameter in module.named_parameters():
        if id(parameter) in parameters and parameter.requires_grad:
            parameter.requires_grad_(False)
            remembered["parameters"].add(name)
    for name, layer in module.named_modules():
        if id(layer) in layers and layer.training:
            layer.training = False
            remembered["layers"].add(name)


def unfreeze(module: nn.Module) -> None:
    """Undo every `freeze` of this module, and no more: what somebody else made constant before stays so.

    >>> layer = nn.BatchNorm2d(3)
    >>> _ = layer.bias.requires_grad_(False)
    >>> freeze(layer)
    >>> unfreeze(layer)
    >>> layer.training, layer.weight.requires_grad, layer.bias.requires_grad
    (True, True, False)
    """
    for parameter in frozen_parameters(module):
        parameter.requires_grad_(True)
    remembered = module.__dict__.pop(_FROZEN, {"layers": set()})
    for name, layer in module.named_modules():
        if name in remembered["layers"]:
            layer.training = True


def frozen_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that `freeze` has made constant in it."""
    names = module.__dict__.get(_FROZEN, {"parameters": set()})["parameters"]
    return [parameter for name, parameter in module.named_parameters() if name in names]


def frozen_by_others(module: nn.Module, part: nn.Module) -> list[nn.Module]:
    """Return the layers of a part that have parameters, all of them constant, though not by `freeze(module)`."""
    ours = {id(parameter) for parameter in frozen_parameters(module)}
    held = [(layer, list(layer.parameters())) for layer in part.modules()]
    return [
        layer
        for layer, parameters in held
        if parameters and not any(p.requires_grad or id(p) in ours for p in parameters)
    ]


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
        layer_decay: Factor of the learning rate from each stage to the one before it. A stage of vectors alone,
            such as the norm that ends a transformer, has the rate of the stage after it, as in timm.
        weight_decay: Of matrices and kernels.

    Returns:
        Groups with "name", "params", "lr" and "weight_decay", the stages in the order given.

    >>> stages = {"body": nn.Linear(3, 2, bias=False), "head": nn.Linear(2, 2)}
    >>> [(group["name"], group["lr"]) for group in parameter_groups(stages, lr=0.1, layer_decay=0.5)]
    [('body', 0.05), ('head', 0.1), ('head.no_decay', 0.1)]
    """
    groups: list[dict[str, Any]] = []
    rates = _rates(stages, lr, layer_decay)
    for name, module in stages.items():
        rate = rates[name]
        decayed = [parameter for parameter in module.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
        if decayed:
            groups.append({"name": name, "params": decayed, "lr": rate, "weight_decay": weight_decay})
        if vectors:
            groups.append({"name": f"{name}.no_decay", "params": vectors, "lr": rate, "weight_decay": 0.0})
    return groups


def _rates(stages: Stages, lr: float, layer_decay: float) -> dict[str, float]:
    rates: dict[str, float] = {}
    depth = 0
    for name, module in reversed(list(stages.items())):
        if rates and any(parameter.ndim > 1 for parameter in module.parameters()):
            depth += 1
        rates[name] = lr * layer_decay**depth
    return rates
