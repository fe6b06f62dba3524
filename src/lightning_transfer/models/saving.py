"""Writing a backbone's weights as a file that the provider's own network takes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from lightning_transfer.errors import BackboneError
from lightning_transfer.models.backbone import Backbone
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.providers.provider import provider_of


def save_weights(
    backbone: Backbone, path: str | Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float16
) -> None:
    """Write the weights of a whole backbone and its pooling under the provider's own keys, without a classifier.

    Args:
        backbone: With all its stages.
        path: A .safetensors file.
        metadata: Where the weights come from; readable without torch.
        dtype: Of the numbers in the file.

    Raises:
        BackboneError: A number is too large for `dtype`, or stages are missing.
    """
    names = _providers_keys(backbone.name)
    # What is no floating number is not learned: counts of batches, and indices that the network makes itself.
    values = {f"stages.{key}": value for key, value in backbone.stages.state_dict().items()}
    if backbone.has_native_pool:
        values |= {f"pool.{key}": value for key, value in backbone.native_pool().state_dict().items()}
    if left := [key for name, key in names.items() if name not in values and name.startswith("stages.")]:
        raise BackboneError(f"{backbone.name} lacks {left[0]}: save the backbone with all its stages.")
    weights = {
        names[name]: value.detach().cpu().to(dtype).contiguous()
        for name, value in values.items()
        if value.is_floating_point()
    }
    if bad := [key for key, value in weights.items() if not bool(torch.isfinite(value).all())]:
        raise BackboneError(f"{bad[0]} has numbers that {dtype} cannot hold: save as torch.float32.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(save(weights, dict(metadata)))


def _providers_keys(name: str) -> dict[str, str]:
    """The provider's key of each parameter and buffer, by its key in "stages" and "pool"."""
    provider, own_name = provider_of(name)
    with meta_init():
        network = provider.build(own_name)
    row = provider.row(own_name, network)
    # The stages hold the network's own layers, so the same tensor has both names.
    keys = {id(value): key for key, value in _tensors(network)}
    parts = nn.ModuleDict({"stages": nn.ModuleDict(row.stages), "pool": row.pool})
    kept = parts.state_dict()
    return {key: keys[id(value)] for key, value in _tensors(parts) if key in kept}


def _tensors(module: nn.Module) -> chain[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())
