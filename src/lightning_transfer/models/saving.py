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
    """Write the weights of a whole backbone under the provider's own keys, without a classifier.

    Args:
        backbone: With all its stages.
        path: A .safetensors file.
        metadata: Where the weights come from; readable without torch.
        dtype: Of the numbers in the file.

    Raises:
        BackboneError: A number is too large for `dtype`, or stages are missing.
    """
    names = _providers_keys(backbone.name)
    weights: dict[str, Tensor] = {}
    for key, value in backbone.stages.state_dict().items():
        if value.is_floating_point():  # the rest are counts of batches, which nothing reads
            weights[names.pop(key)] = value.detach().cpu().to(dtype).contiguous()
    if left := [key for key in names if not key.endswith("num_batches_tracked")]:
        raise BackboneError(f"{backbone.name} lacks {left[0]}: save the backbone with all its stages.")
    if bad := [key for key, value in weights.items() if not bool(torch.isfinite(value).all())]:
        raise BackboneError(f"{bad[0]} has numbers that {dtype} cannot hold: save as torch.float32.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(save(weights, dict(metadata)))


def _providers_keys(name: str) -> dict[str, str]:
    """The provider's key of each parameter and buffer, by its key in the row of stages."""
    provider, own_name = provider_of(name)
    with meta_init():
        network = provider.build(own_name)
    # The stages hold the network's own layers, so the same tensor has both names.
    keys = {id(value): key for key, value in _tensors(network)}
    stages = nn.ModuleDict(provider.row(own_name, network).stages)
    kept = stages.state_dict().keys()  # a file holds no buffers that are computed from the network's shape
    return {key: keys[id(value)] for key, value in _tensors(stages) if key in kept}


def _tensors(module: nn.Module) -> chain[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())
