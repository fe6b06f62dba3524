"""Weights of a backbone: a torchvision name, or a file with torchvision's keys."""

from __future__ import annotations

import difflib
import pickle
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import TypeGuard
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from lightning_transfer.errors import BackboneError, DownloadError
from lightning_transfer.models.providers.torchvision import drop_classifier
from lightning_transfer.utils.download import download

# Weights that come with this library; the README beside them says where they come from.
BUNDLED = {"mobilenet_v3_small": Path(__file__).parent / "bundled" / "mobilenet_v3_small.safetensors"}
SUFFIXES = (".pth", ".pt", ".safetensors")
# What torch.load, restricted to weights, raises for files that are damaged or none of its own.
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, struct.error, EOFError, RuntimeError),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError),
)
# The first digits of its sha256, in the name of each file that torchvision publishes; nobody publishes the others.
DIGEST = re.compile(r"-([0-9a-f]{8,64})\.pth$")
# DenseNet's published files have keys such as "denselayer1.norm.1.weight", for today's "norm1.weight".
OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")

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


def find_weights(name: str, weights: str) -> models.WeightsEnum | Path:
    """Tell a torchvision weights name ("DEFAULT", "IMAGENET1K_V1", …) from a file and from "bundled".

    Raises:
        BackboneError: It is neither, or a web address.
    """
    if "://" in weights:
        raise BackboneError(f"weights={weights!r}: wanted a local file; download it first and pass its path.")
    if weights == "bundled":
        if name not in BUNDLED:
            raise BackboneError(
                f"No weights of {name} come with this library, only those of {', '.join(BUNDLED)}."
            )
        return BUNDLED[name]
    if weights.endswith(SUFFIXES):
        return Path(weights)
    known = models.get_model_weights(name)
    if weights in known.__members__:
        return known[weights]
    near = difflib.get_close_matches(weights, known.__members__, n=1, cutoff=0.4)
    raise BackboneError(
        f"{name} has no weights {weights!r}{f' (did you mean {near[0]}?)' if near else ''}: wanted one of "
        f"{', '.join(known.__members__)}, bundled, the path of a {', '.join(SUFFIXES)} file, or None (null) for "
        "random numbers."
    )


def read_weights(source: models.WeightsEnum | Path) -> dict[str, Tensor]:
    """Read a state dict; a torchvision name is downloaded once, to `$TORCH_HOME`.

    The hash of that file is checked each time. No code that a file may hold is run.

    Raises:
        BackboneError: The file is missing or not a plain state dict.
        DownloadError: The weights are not at hand and cannot be fetched, or are not those that they should be.
    """
    return _read_file(source if isinstance(source, Path) else _fetch(source))


def _fetch(weights: models.WeightsEnum) -> Path:
    """The file of a torchvision weights name, where torchvision itself keeps it."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(urlsplit(weights.url).path).name
    digest = DIGEST.search(path.name)
    if digest is None:
        raise DownloadError(
            f"{weights.url} has no hash in its name, by which it could be checked: get it by other means, and "
            "pass its path as weights."
        )
    remedy = (
        "Without a network, bring that file here by other means and pass its path as weights, or put it in "
        f"{path.parent}."
    )
    return download(weights.url, path, digest[1], remedy)


def _read_file(path: Path) -> dict[str, Tensor]:
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


def load_weights(name: str, network: nn.Module, state: dict[str, Tensor], origin: object) -> None:
    """Load a state dict into a torchvision network on the meta device, and drop its classifier.

    Args:
        name: The network's torchvision name.
        network: Changed in place.
        state: torchvision's own keys; those of the classifier may be absent, or of another width.
        origin: Where the state came from, for the error.

    Raises:
        BackboneError: Keys are missing, unexpected, or of another shape; names them.
    """
    dropped = tuple(f"{part}." for part in drop_classifier(name, network))
    given = {OLD_DENSENET_KEY.sub(r"\1\2", key): value for key, value in state.items()}
    given = {key: value for key, value in given.items() if not key.startswith(dropped)}
    wanted = network.state_dict()
    for key, like in wanted.items():
        # Counts batches for a momentum of None, which no torchvision network has; old files lack it.
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
    # Filling `wanted` keeps the version marks beside its keys, without which MNASNet refuses to load.
    wanted.update({key: given[key].to(like.dtype) for key, like in wanted.items()})
    network.load_state_dict(wanted, assign=True)


def _listed(what: str, keys: set[str]) -> list[str]:
    if not keys:
        return []
    some = ", ".join(sorted(keys)[:3])
    return [f"{len(keys):,} {what} ({some}{', …' if len(keys) > 3 else ''})"]
