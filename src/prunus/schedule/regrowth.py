"""Exchange a share of the weights of one matrix: the smallest that are alive go, as many others come, from zero.

The step that SET (Mocanu et al. 2018), RigL (Evci et al. 2020) and GraNet (Liu et al. 2021) have in common.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def exchanged(score: Tensor, alive: Tensor, growth: Tensor, share: float) -> Tensor:
    """Which weights are alive after the exchange. One that would go and is among the best to come never leaves.

    Args:
        score: `[outputs, inputs]`, large stays.
        alive: bool of the same shape.
        growth: same shape; the largest of those not alive come. Ties by position, in both directions.
        share: of the alive ones that goes, rounded up.

    Returns:
        bool, with as many alive as before.
    """
    count = min(math.ceil(share * int(alive.sum())), int(alive.sum()))
    flat = alive.flatten()
    places = flat.nonzero().flatten()
    gone = places[torch.sort(score.flatten()[places], stable=True).indices[:count]]
    after = flat.clone()
    after[gone] = False
    free = (~after).nonzero().flatten()
    after[free[torch.sort(growth.flatten()[free], descending=True, stable=True).indices[:count]]] = True
    return after.reshape(alive.shape)
