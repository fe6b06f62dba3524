"""Build a network for its shapes alone, or to load weights into it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

RANDOM = (torch.Tensor.normal_, torch.Tensor.uniform_)


class meta_init(TorchFunctionMode):  # noqa: N801  # used as a context manager, as torch.no_grad is
    """Build networks on the meta device: no memory for weights, no random numbers drawn.

    It redirects `torch.empty`, from which layers make their weights. `torch.device("meta")` would not do: RegNet
    computes its widths with small tensors.

    >>> with meta_init():
    ...     layer = torch.nn.Linear(10_000, 10_000)
    >>> layer.weight.device.type
    'meta'
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each of its functions."""
        kwargs = dict(kwargs or {})
        if func in RANDOM:  # of a parameter that was made in another way
            return args[0]
        # timm's hybrids pass an image of zeros through their first layers, to see what shape comes out.
        if func is torch.empty or (func is torch.zeros and _has_four_axes(args)):
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _has_four_axes(sizes: tuple[Any, ...]) -> bool:
    return len(sizes[0] if len(sizes) == 1 and isinstance(sizes[0], list | tuple) else sizes) == 4


def fill_buffers(network: nn.Module) -> None:
    """Compute the buffers that no file of weights holds, in a network made within `meta_init`.

    Args:
        network: Its modules with such buffers have a method `init_non_persistent_buffers`, as timm's do.
    """
    for module in network.modules():
        buffers = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
        empty = {name: buffer for name, buffer in buffers.items() if buffer is not None and buffer.is_meta}
        for name, buffer in empty.items():
            module._buffers[name] = torch.empty_like(buffer, device="cpu")
        if any(buffer.numel() for buffer in empty.values()):
            module.init_non_persistent_buffers()  # type: ignore[operator]
