"""Weights of a backbone: a provider's name for them, or a file with the provider's keys."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from pathlib import Path
from typing import TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.meta_init import fill_buffers
from lightning_transfer.models.providers.provider import NamedWeights, Provider, Row

# Weights that come with this library; the README beside them says where they come from.
BUNDLED = {"mobilenet_v3_small": Path(__file__).parent / "bundled" / "mobilenet_v3_small.safetensors"}
SUFFIXES = (".pth", ".pt", ".safetensors")
# What torch.load, restricted to weights, raises for files that are damaged or none of its own.
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, struct.error, EOFError, RuntimeError),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError),
)
_replaced: ContextVar[bool] = ContextVar("weights are replaced afterwards", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Make networks with random weights, whatever their code asks for, since a checkpoint's replace them.

    For classes that name weights themselves: their files need not be there to load a checkpoint.

    >>> with weights_follow():
    ...     do_weights_follow()
    True
    """
    token = _replaced.set(True)
    try:
        yield
    finally:
        _replaced.reset(token)


def do_weights_follow() -> bool:
    """Return whether the caller is within `weights_follow`."""
    return _replaced.get()


def choose_weights(name: str, weights: str) -> str:
    """Resolve "auto": the bundled weights where this library has them, else torchvision's.

    >>> choose_weights("mobilenet_v3_small", "auto"), choose_weights("vgg16", "auto")
    ('bundled', 'DEFAULT')
    """
    if weights != "auto":
        return weights
    return "bundled" if name in BUNDLED else "DEFAULT"


def find_weights(name: str, provider: Provider, own_name: str, weights: str) -> NamedWeights:
    """Tell a provider's name for weights from a file and from "bundled".

    Args:
        name: The network's, as people write it.
        provider: Its provider.
        own_name: The provider's name for it.
        weights: What is asked for.

    Raises:
        BackboneError: It is none of them, or a web address.
    """
    if "://" in weights:
        raise BackboneError(f"weights={weights!r}: wanted a local file; download it first and pass its path.")
    if weights == "bundled" and name not in BUNDLED:
        raise BackboneError(f"No weights of {name} come with this library, only those of {', '.join(BUNDLED)}.")
    if weights == "bundled" or weights.endswith(SUFFIXES):
        path = BUNDLED[name] if weights == "bundled" else Path(weights)
        return NamedWeights(str(path), lambda: read_file(path), provider.preprocessing(own_name))
    return provider.find_weights(own_name, weights)


def read_file(path: Path) -> dict[str, Tensor]:
    """Read a state dict, without running code that the file may hold.

    Raises:
        BackboneError: The file is missing or not a plain state dict.
    """
    if not path.is_file():
        raise BackboneError(f"There is no weights file {path}: wanted a {', '.join(SUFFIXES)} file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise BackboneError(
            f"{path} cannot be read as weights: wanted a state dict of tensors, as torch.save or safetensors "
            f"writes it. {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    if not _is_flat(state):
        checkpoint = isinstance(state, dict) and "state_dict" in state
        hint = '; it looks like a checkpoint: save its "state_dict" alone' if checkpoint else ""
        raise BackboneError(f"{path} holds a {type(state).__name__}, wanted a flat dict of tensors{hint}.")
    return state


def _is_flat(state: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )


def load_weights(name: str, network: nn.Module, row: Row, state: dict[str, Tensor], origin: str) -> None:
    """Load a state dict into a network on the meta device, without its classifier.

    Args:
        name: The network's.
        network: Changed in place: its tensors are replaced, so that its row is to be made again.
        row: Of this network; what is in no stage, and not in its pooling, is the classifier.
        state: The provider's own keys; those of the classifier may be absent, or of another width.
        origin: Where the state came from, for the error.

    Raises:
        BackboneError: Keys are missing, unexpected, or of another shape; names them.
    """
    parts = [*row.stages.values(), row.pool]
    kept = {id(tensor) for part in parts for tensor in chain(part.parameters(), part.buffers())}
    tensors = dict(
        chain(network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False))
    )
    wanted = {key: value for key, value in network.state_dict().items() if id(tensors[key]) in kept}
    # Parts of the network that no stage holds; a file may have them, or not.
    dropped = tuple({key.partition(".")[0] for key in tensors} - {key.partition(".")[0] for key in wanted})
    given = {key: value for key, value in state.items() if key in wanted or key.partition(".")[0] not in dropped}
    given = {key: value for key, value in given.items() if key in wanted or key not in tensors}
    for key, like in wanted.items():
        # Counts batches for a momentum of None, which no such network has; old files lack it.
        if key.endswith(".num_batches_tracked"):
            given.setdefault(key, torch.zeros(like.shape, dtype=like.dtype))
    complaints = [
        *_listed("missing", wanted.keys() - given.keys()),
        *_listed("unexpected", given.keys() - wanted.keys()),
        *_listed(
            "of another shape",
            {key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape},
        ),
    ]
    if complaints:
        raise BackboneError(
            f"{origin} does not fit {name}: {'; '.join(complaints)}. Is it the file of another network?"
        )
    # The network's own dict has version marks beside its keys, without which MNASNet refuses to load.
    whole = network.state_dict()
    whole.update({key: given[key].to(like.dtype) for key, like in wanted.items()})
    network.load_state_dict(whole, assign=True)
    fill_buffers(network)


def _listed(what: str, keys: set[str]) -> list[str]:
    if not keys:
        return []
    some = ", ".join(sorted(keys)[:3])
    return [f"{len(keys):,} {what} ({some}{', …' if len(keys) > 3 else ''})"]
