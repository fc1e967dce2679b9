"""LAMP: magnitude made comparable across layers, w^2 over the squares not smaller (Lee et al. 2021).

Removes: weights, with one global cut. The largest weight of every layer scores 1, so no layer is emptied before the
 others.
Needs: the weights only.
Cost: one sort of each layer.
Departures: sums in float64. Own implementation from the paper's formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.core.registry import criterion
from prunus.weights.magnitude import full


@criterion(unit="weights", needs=("weight",), sense="keep", within="all", card="global-mp")
def lamp(layer: Any) -> Tensor:
    """Squared weight over the sum of squares of its layer that are at least as large.

    Args:
        layer: `.weight [outputs, inputs]`.

    Returns:
        float `[outputs, inputs]` in [0, 1]. Scaling a layer leaves it as it is.
    """
    squares = full(layer.weight).double().square().reshape(-1)
    ascending, order = squares.sort(stable=True)
    rest = ascending.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = ascending / rest.clamp_min(torch.finfo(torch.float64).tiny)
    return scores.reshape(layer.weight.shape).to(torch.float32)
