"""Weights of a backbone: a provider's name for them, or a file with the provider's keys."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Iterator
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


def load_weights(
    name: str, network: nn.Module, row: Row, state: dict[str, Tensor], origin: str
) -> tuple[str, ...]:
    """Load a state dict into a network on the meta device: its stages, and the pooling that follows them.

    What is in neither is the classifier. Its keys may be absent, or those of any other classifier, and so may the
    pooling's: a file that somebody made for his own classes has other layers behind the stages.

    Args:
        name: The network's.
        network: Changed in place: its tensors are replaced, so that its row is to be made again.
        row: Of this network.
        state: The provider's own keys.
        origin: Where the state came from, for the error.

    Returns:
        The keys of the pooling that the state has not, or in another shape; the pooling is then as it was.

    Raises:
        BackboneError: Keys of stages are missing, unexpected, or of another shape; names them.
    """
    own = network.state_dict()
    stages, pool = _keys_of(network, row.stages.values()), _keys_of(network, [row.pool])
    beside = _paths_beside(network, row)
    wanted = {key: value for key, value in own.items() if key in stages}
    given = {
        key: value
        for key, value in state.items()
        if key in wanted or not (key in own or any(path in beside for path in _paths_to(key)))
    }
    for key, like in wanted.items():
        # Not learned: counts of batches, which old files lack, and indices that depend on the architecture alone.
        if not like.is_floating_point():
            given.setdefault(key, like)
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
    lacking = tuple(key for key in own if key in pool and (key not in state or state[key].shape != own[key].shape))
    if not lacking:
        wanted |= {key: own[key] for key in own if key in pool}
        given |= {key: state[key] for key in pool}
    # The network's own dict has version marks beside its keys, without which MNASNet refuses to load.
    own.update({key: given[key].to(like.dtype) for key, like in wanted.items()})
    network.load_state_dict(own, assign=True)
    fill_buffers(network)
    return lacking


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All under each of their names, as in a state dict: layers may share one."""
    return chain(module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))


def _keys_of(network: nn.Module, parts: Iterable[nn.Module]) -> set[str]:
    """The network's keys of what its parts hold."""
    held = {id(tensor) for part in parts for _, tensor in _tensors(part)}
    tensors = chain(
        network.named_parameters(remove_duplicate=False), network.named_buffers(remove_duplicate=False)
    )
    return {key for key, tensor in tensors if id(tensor) in held}


def _paths_beside(network: nn.Module, row: Row) -> set[str]:
    """Where the network has modules of which no stage holds anything: its classifier and others beside it."""
    layers = {id(layer) for stage in row.stages.values() for layer in stage.modules()}
    tensors = {id(tensor) for stage in row.stages.values() for _, tensor in _tensors(stage)}
    return {
        path
        for path, module in network.named_modules()
        if id(module) not in layers and not any(id(tensor) in tensors for _, tensor in _tensors(module))
    }


def _paths_to(key: str) -> Iterator[str]:
    """The modules that a key may be in, the innermost first: "a.b.weight" gives "a.b" and "a"."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _listed(what: str, keys: set[str]) -> list[str]:
    if not keys:
        return []
    some = ", ".join(sorted(keys)[:3])
    return [f"{len(keys):,} {what} ({some}{', …' if len(keys) > 3 else ''})"]
