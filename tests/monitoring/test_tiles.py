"""Tiles hold the numbers they were given."""

import matplotlib
import numpy as np
import torch

from lightning_transfer.monitoring.tiles import GAP, TILE, feature_map_tiles, filter_tiles


def tile(grid, row, column):
    top, left = (GAP + place * (TILE + GAP) for place in (row, column))
    return grid[top : top + TILE, left : left + TILE]


def test_a_row_is_an_image_and_the_channels_that_differ_most():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, 3, TILE, TILE), dtype=np.uint8)
    maps = np.zeros((2, 3, 2, 2), np.float32)
    maps[:, 0] = 5  # the same everywhere
    maps[0, 1] = [[0, 1], [2, 4]]
    maps[1, 1] = [[4, 4], [0, 0]]
    maps[0, 2] = [[0, 0.1], [0, 0]]
    grid = feature_map_tiles(torch.from_numpy(images), torch.from_numpy(maps), channels=2)
    assert (grid.dtype, grid.shape) == (np.uint8, (2 * TILE + 3 * GAP, 3 * TILE + 4 * GAP, 3))
    colours = matplotlib.colormaps["viridis"]
    for row in range(2):
        np.testing.assert_array_equal(tile(grid, row, 0), images[row].transpose(1, 2, 0))
        for y, x in np.ndindex(2, 2):
            expected = [int(part * 255) for part in colours(maps[row, 1, y, x] / 4)[:3]]
            quarter = tile(grid, row, 1)[y * TILE // 2 : (y + 1) * TILE // 2, x * TILE // 2 : (x + 1) * TILE // 2]
            assert (quarter == expected).all()
    assert (grid[:, GAP + TILE : TILE + 2 * GAP] == 255).all()


def test_more_columns_than_channels_are_all_there_are():
    grid = feature_map_tiles(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.ones(1, 2, 1, 1), channels=8)
    assert grid.shape[1] == 3 * TILE + 4 * GAP


def test_each_filter_runs_from_black_to_white():
    filters = np.zeros((5, 3, 1, 3), np.float32)
    filters[3, :, 0, 2] = 7
    filters[4, 0] = -2
    grid = filter_tiles(torch.from_numpy(filters))
    assert grid.shape == (2 * TILE + 3 * GAP, 3 * TILE + 4 * GAP, 3)
    assert (tile(grid, 0, 0) == 0).all()
    third = TILE // 3
    assert (tile(grid, 1, 0)[:, :third] == 0).all()
    assert (tile(grid, 1, 0)[:, 2 * third :] == 255).all()
    assert (tile(grid, 1, 1) == [0, 255, 255]).all()
    assert (tile(grid, 1, 2) == 255).all()  # nothing there
