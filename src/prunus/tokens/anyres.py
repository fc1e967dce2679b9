"""Any-resolution tiling: tile 0 is the whole image, then a grid of tiles. T tokens stay in EVERY tile.

Order of the visual tokens: the base tile's, then those of the grid in raster order of the stitched image, that is
(tile row, patch row, tile column, patch column). No newline tokens, no unpadding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput


def stitch(tiles: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches of grid tiles in raster order of the stitched image.

    Args:
        tiles: `[tiles, N, ...]`, square tiles in raster order.
        grid: (tiles per row, tiles per column): width, height.

    Returns:
        `[tiles * N, ...]`.
    """
    width, height = grid
    count, patches = tiles.shape[:2]
    side = round(patches**0.5)
    if count != width * height or side * side != patches:
        raise BadInput(f"{count} tiles of {patches} patches are no {width} x {height} grid of square tiles")
    shaped = tiles.reshape(height, width, side, side, *tiles.shape[2:])
    return shaped.transpose(1, 2).reshape(count * patches, *tiles.shape[2:])


def kept_tokens(features: Tensor, mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """The kept tokens of one tiled image, in the order the language model reads them.

    Args:
        features: `[1 + tiles, N, d]`.
        mask: bool `[1 + tiles, N]`.
        grid: (width, height) of the tile grid.

    Returns:
        `[kept, d]`.
    """
    base = features[0][mask[0]]
    return torch.cat([base, stitch(features[1:], grid)[stitch(mask[1:], grid)]])
