"""Numbers in, images of little images out; quicker than matplotlib's figures.

Shapes: B images, C channels, F filters, H W image, h w feature map or filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from numpy.typing import NDArray

TILE, GAP = 96, 4


def feature_map_tiles(images: NDArray[np.uint8], maps: NDArray[np.float32], channels: int) -> NDArray[np.uint8]:
    """A row an image: the image, then its feature map's channels that differ most over all images.

    A channel has one scale of colours in all rows.

    Args:
        images: (B, 3, H, W).
        maps: (B, C, h, w), of the same images.
        channels: How many columns; fewer where C is less.

    Returns:
        (height, width, 3) uint8.
    """
    most = np.argsort(-maps.std(axis=(0, 2, 3)), kind="stable")[:channels]
    columns = [[_fit(image.transpose(1, 2, 0)) for image in images]]
    colours = matplotlib.colormaps["viridis"]
    for channel in most:
        scaled = _scaled(maps[:, channel])
        columns.append([_fit((colours(one)[..., :3] * 255).astype(np.uint8)) for one in scaled])
    return _grid([tile for row in zip(*columns, strict=True) for tile in row], len(columns))


def filter_tiles(filters: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The filters of a first layer as colour images, each from its darkest to its brightest.

    Args:
        filters: (F, 3, h, w).

    Returns:
        (height, width, 3) uint8.
    """
    tiles = [_fit((_scaled(one) * 255).astype(np.uint8).transpose(1, 2, 0)) for one in filters]
    return _grid(tiles, int(np.ceil(np.sqrt(len(tiles)))))


def _scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To [0, 1]; what is the same everywhere becomes 0."""
    span = values.max() - values.min()
    scaled: NDArray[np.float32] = (values - values.min()) / (span or 1)
    return scaled


def _fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 3) to (TILE, TILE, 3), each pixel of it the nearest one."""
    rows, columns = (np.arange(TILE) * side // TILE for side in image.shape[:2])
    fitted: NDArray[np.uint8] = image[rows][:, columns]
    return fitted


def _grid(tiles: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Tiles by row, white between them."""
    step = TILE + GAP
    rows = -(-len(tiles) // columns)
    grid = np.full((rows * step - GAP, columns * step - GAP, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * step, number % columns * step
        grid[top : top + TILE, left : left + TILE] = tile
    return grid
