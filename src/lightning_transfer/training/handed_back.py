"""What the data said to a module in a spawned process, on its way back to the process that started it.

Strategies that spawn processes (`ddp_spawn`, `ddp_fork`, `ddp_notebook`) set the module up in those alone; of all
that they know, Lightning hands back a state dict. There, and there alone, it holds this too: a tensor of bytes,
since people clone, move and average whatever a state dict holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch import Tensor, nn

KEY = "lightning_transfer_from_data"


class KnowsData(Protocol):
    """A module that the data have told something, in plain values."""

    def from_data(self) -> dict[str, Any]:
        """Return it."""

    def take_from_data(self, values: dict[str, Any]) -> None:
        """Take back what `from_data` gave; called before the weights are loaded."""


def hand_back(module: nn.Module) -> None:
    """Have a module's state dict hold what the data said, where processes were spawned, and load it from there."""
    module.register_state_dict_post_hook(_add)  # type: ignore[no-untyped-call]  # torch's
    module.register_load_state_dict_pre_hook(_take)  # type: ignore[no-untyped-call]


def leave_out(checkpoint: Mapping[str, Any]) -> None:
    """Take it out of a checkpoint, which says the same by name."""
    for part in ("state_dict", "current_model_state"):  # the second is WeightAveraging's
        checkpoint.get(part, {}).pop(KEY, None)


def pack(values: Mapping[str, Any]) -> Tensor:
    """Write plain values as a uint8 tensor.

    >>> unpack(pack({"class_names": ("café", "thé"), "resize": None}))
    {'class_names': ['café', 'thé'], 'resize': None}
    """
    return torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)


def unpack(state: Tensor) -> dict[str, Any]:
    """Read what `pack` wrote; tuples come back as lists."""
    values: dict[str, Any] = json.loads(bytes(state.tolist()))
    return values


def _add(module: nn.Module, state_dict: MutableMapping[str, Any], prefix: str, metadata: object) -> None:
    trainer = cast(LightningModule, module)._trainer
    if trainer is not None and isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        state_dict[f"{prefix}{KEY}"] = pack(cast(KnowsData, module).from_data())


def _take(module: nn.Module, state_dict: MutableMapping[str, Any], prefix: str, *others: object) -> None:
    state = state_dict.pop(f"{prefix}{KEY}", None)
    if state is not None:
        cast(KnowsData, module).take_from_data(unpack(state))
