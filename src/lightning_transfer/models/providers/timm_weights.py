"""Pretrained weights of timm's networks: which there are, what they were trained with, and where to fetch them."""

from __future__ import annotations

import difflib
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lightning_transfer.errors import BackboneError, DownloadError
from lightning_transfer.models.providers.provider import NamedWeights, Preprocessing
from lightning_transfer.models.weights import SUFFIXES, UNREADABLE, read_file

FILE = "model.safetensors"  # in each repository of timm's weights; the .bin files beside it are pickles
# What timm calls the function of a family that adapts other forms of its weights.
ADAPTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


def config_of(name: str) -> Any:
    """Return timm's `PretrainedCfg` of "NAME" or "NAME.TAG"."""
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(name)


def tags_of(architecture: str) -> list[str]:
    """The tags of a network that have weights; the default is the first."""
    import timm

    full = timm.list_pretrained(f"{architecture}.*") + timm.list_pretrained(architecture)
    tags = [name.partition(".")[2] for name in full if name.partition(".")[0] == architecture]
    default = config_of(architecture).tag or ""
    return sorted(set(tags), key=lambda tag: (tag != default, tag))


def preprocessing_of(config: Any) -> Preprocessing:
    """Return how images were prepared for weights."""
    return Preprocessing(
        tuple(config.mean),
        tuple(config.std),
        min(config.input_size[1:]),  # Sapiens' are 1024 × 768
        config.interpolation,
        config.crop_pct,
    )


def find_tag(name: str, weights: str) -> NamedWeights:
    """Find weights by their tag; "DEFAULT" is the tag in the name, or the network's default.

    Raises:
        BackboneError: There are none of that tag, or timm has published none; lists those there are.
    """
    architecture, _, own_tag = name.partition(".")
    tags = tags_of(architecture)
    tag = (own_tag or (tags[0] if tags else "")) if weights == "DEFAULT" else weights
    remedy = f"the path of a {', '.join(SUFFIXES)} file, or None (null) for random numbers."
    if not tags:
        raise BackboneError(f"timm publishes no weights of {architecture}: wanted {remedy}")
    if tag not in tags:
        near = difflib.get_close_matches(tag, tags, n=1, cutoff=0.4)
        raise BackboneError(
            f"timm/{architecture} has no weights {tag!r}{f' (did you mean {near[0]}?)' if near else ''}: wanted "
            f"DEFAULT, {', '.join(filter(None, tags))}, {remedy}"
        )
    full_name = f"{architecture}.{tag}" if tag else architecture
    config = config_of(full_name)
    if not config.hf_hub_id:
        raise BackboneError(
            f"The weights timm/{full_name} are published as {config.url} alone, which has no form that is safe to "
            "load unseen: fetch that file and pass its path as weights."
        )
    return NamedWeights(f"timm/{full_name}", lambda: read_file(fetch(config.hf_hub_id)), preprocessing_of(config))


def fetch(repository: str) -> Path:
    """The weights of a repository on the Hugging Face hub, from its cache or fetched into it.

    Args:
        repository: "ORGANISATION/NAME" or "ORGANISATION/NAME@REVISION".

    Raises:
        BackboneError: The repository has no .safetensors file.
        DownloadError: It is not in the cache and cannot be fetched.
    """
    from huggingface_hub import constants, errors, hf_hub_download

    identifier, _, revision = repository.partition("@")
    place = f"{identifier}/{FILE}"
    remedy = (
        f"Without a network, bring {FILE} of {constants.ENDPOINT}/{identifier} here by other means and pass its "
        f"path as weights, or copy the hub's cache to {constants.HF_HUB_CACHE}."
    )
    # Its errors that are no OSError come from the library that it speaks HTTP with, which differs by its version.
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        return Path(hf_hub_download(identifier, FILE, revision=revision or None))
    except errors.RemoteEntryNotFoundError as error:
        raise BackboneError(
            f"The hub has no {place}: these weights are published as a pickle alone, which is not loaded unseen. "
            "Fetch the repository's .bin file and pass its path, renamed to .pth, as weights."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        reason = error.__cause__ or error
        raise DownloadError(
            f"{place} is not in the hub's cache and cannot be fetched ({_line(reason)}). {remedy}"
        ) from error
    except (OSError, http_error) as error:
        raise DownloadError(f"{place} cannot be fetched ({_line(error)}). {remedy}") from error


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def adapt_state(family: str, network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adapt weights of another form or image size, as timm does when it loads them.

    Args:
        family: The module of timm that makes the network, whose functions adapt its weights.
        network: The whole network; only its shapes matter.
        state: The weights; they stay as they are where they fit, or where timm cannot adapt them.
    """
    wanted = network.state_dict()
    if all(key in wanted and wanted[key].shape == value.shape for key, value in state.items()):
        return state
    module = sys.modules[family]
    adapter = next((getattr(module, name) for name in ADAPTERS if hasattr(module, name)), None)
    if adapter is not None:
        with suppress(*UNREADABLE):  # the file of another network: what does not fit is named when it is loaded
            state = adapter(dict(state), network)
    return {key: value for key, value in state.items() if key in wanted or not _is_classifiers(network, key)}


def _is_classifiers(network: Any, key: str) -> bool:
    """Whether a key is of a classifier, or a pooling before it, that this network does not have."""
    classifier = network.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return key.startswith(tuple(f"{name}." for name in (*names, "attn_pool")))
