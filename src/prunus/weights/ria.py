"""RIA: a weight's share of its output's and of its input's magnitudes, times the root of the input norm (Zhang et al. 2024).

Removes: weights.
Needs: the L2 norm of every input over calibration tokens.
Cost: one forward pass of the calibration data, one number for each input; two sums over the weights.
Departures: written from the paper's formula (Plug-and-Play, ICLR 2024), which has no card here. The published power of the norms, 0.5,
 is the default. The channel permutation that the paper adds for N:M is not part of it. Scores are for the whole layer; the paper,
 and the default here, cuts within each output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.weights.magnitude import full


@criterion(unit="weights", needs=("weight", "input_norm"), sense="keep", within="output")
def ria(layer: Any, *, power: float = 0.5) -> Tensor:
    """Relative importance times activation.

    Args:
        layer: `.weight [outputs, inputs]`, `.input_norm` with as many entries as inputs (or as weights, for grouped convolutions).
        power: of the input norms; 0 leaves the weights alone.

    Returns:
        float `[outputs, inputs]`, at least 0. Scaling the whole layer leaves it as it is.
    """
    size = full(layer.weight).abs()
    norm = layer.input_norm.to(size.dtype)
    if norm.numel() not in (size.shape[1], size.numel()):
        raise BadInput(f"{layer.name} has {size.shape[1]} inputs but norms of {norm.numel()}")
    least = torch.finfo(size.dtype).tiny
    relative = size / size.sum(1, keepdim=True).clamp_min(least) + size / size.sum(0, keepdim=True).clamp_min(least)
    return relative * norm.reshape(-1, size.shape[1]).pow(power)
