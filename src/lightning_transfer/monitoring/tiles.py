"""Grids of small images, for feature maps and filters.

Shapes: B images, C channels, F filters, H W image, h w feature map or filter.
"""

from __future__ import annotations

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

TILE, GAP = 96, 4


def feature_map_tiles(images: Tensor, maps: Tensor, channels: int) -> NDArray[np.uint8]:
    """Show in each row an image, then the channels of its feature map that differ most over all images.

    A channel has the same colour scale in all rows.

    Args:
        images: (B, 3, H, W) uint8.
        maps: (B, C, h, w) float32, of the same images.
        channels: How many to show; fewer if C is less.

    Returns:
        (height, width, 3) uint8.
    """
    most = maps.std(dim=(0, 2, 3), correction=0).argsort(descending=True, stable=True)[:channels]
    viridis = matplotlib.colormaps["viridis"]
    columns = [_resized(images.float())]
    for channel in most.tolist():
        colours = torch.from_numpy(viridis(_scaled(maps[:, channel]).numpy(), bytes=True)[..., :3])
        columns.append(_resized(colours.permute(0, 3, 1, 2).float()))
    return _grid(torch.stack(columns, dim=1).flatten(0, 1), len(columns))


def filter_tiles(filters: Tensor) -> NDArray[np.uint8]:
    """Show the (F, 3, h, w) filters of a first layer as colour images, each from its darkest to its brightest."""
    tiles = torch.stack([_scaled(one) * 255 for one in filters])
    return _grid(_resized(tiles), int(np.ceil(np.sqrt(len(tiles)))))


def _scaled(values: Tensor) -> Tensor:
    """Scale to [0, 1]; constant values become 0."""
    span = values.max() - values.min()
    return (values - values.min()) / (span if span > 0 else 1)


def _resized(tiles: Tensor) -> Tensor:
    return F.interpolate(tiles, (TILE, TILE), mode="nearest").to(torch.uint8)


def _grid(tiles: Tensor, columns: int) -> NDArray[np.uint8]:
    grid: NDArray[np.uint8] = make_grid(tiles, columns, GAP, pad_value=255).permute(1, 2, 0).numpy()
    return grid
