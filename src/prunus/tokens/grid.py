"""Grid: evenly spread positions, the control that uses no content at all (a stride over the patch grid).

Removes: visual tokens.
Needs: only the shape of the patch grid.
Cost: nothing.
Departures: a plain stride exists only for square fractions of the grid. Here positions are ranked by the ordered-dither
    (Bayer) matrix: the first T of them are evenly spread for every T, and equal the stride grid at 1/4, 1/16, ...
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion


def bayer(height: int, width: int) -> Tensor:
    """Rank of each cell in the ordered-dither matrix, restricted to `height x width`: int64 `[height * width]`, all different."""
    order = torch.zeros(1, 1, dtype=torch.int64)
    while order.shape[0] < max(height, width):
        fine = 4 * order
        order = torch.cat([torch.cat([fine, fine + 2], 1), torch.cat([fine + 3, fine + 1], 1)], 0)
    return order[:height, :width].reshape(-1)


def grid_shape(tokens: int, width: int | None) -> tuple[int, int]:
    """(height, width) of the patch grid; square unless `width` is given.

    Raises:
        BadInput: the tokens do not fill such a grid.
    """
    side = width or round(tokens**0.5)
    if side < 1 or tokens % side or (width is None and side * side != tokens):
        raise BadInput(
            f"{tokens} tokens make no {'square grid' if width is None else f'grid of width {width}'}; give width="
        )
    return tokens // side, side


@criterion(unit="tokens", at="vision.output", needs=("features",), sense="keep")
def grid(s: Any, *, width: int | None = None) -> Tensor:
    """Minus the dither rank. `s.features` `[B, T, d]` -> `[B, T]`.

    Args:
        width: patches in a row of the grid; None: the grid is square.
    """
    batch, tokens = s.features.shape[:2]
    rank = bayer(*grid_shape(tokens, width)).to(s.features.device)
    return -rank.to(torch.float32).expand(batch, tokens)
