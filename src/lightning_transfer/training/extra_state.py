"""What a module knows besides its weights, in the form in which it travels through a state dict.

A tensor of bytes, since people clone, move and average whatever a state dict holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

KEY = "_extra_state"  # torch's own, see torch.nn.Module.get_extra_state


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


def allow_absent(module: nn.Module, state_dict: MutableMapping[str, Any], prefix: str, *others: object) -> None:
    """Let strict loading do without it; a hook for `register_load_state_dict_pre_hook`."""
    state_dict.setdefault(f"{prefix}{KEY}", pack({}))


def leave_out(checkpoint: Mapping[str, Any]) -> None:
    """Take it out of a checkpoint, which says the same by name: what data say now goes before that."""
    for part in ("state_dict", "current_model_state"):  # the second is WeightAveraging's
        checkpoint.get(part, {}).pop(KEY, None)
