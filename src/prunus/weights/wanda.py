"""Wanda: |w| times the norm of the input it multiplies, within each output (Sun et al. 2023). No retraining.

Removes: weights.
Needs: the L2 norm of every input over calibration tokens (padding left out); only ratios inside a layer matter.
Cost: one forward pass of the calibration data, one number for each input, one partition of every output.
Departures: one pass on the dense model by default, where the paper sends the data again through each pruned block
 (slightly better, twice the cost). "2:4" says what stays; the released flag says what goes. Dead inputs score 0 and
 go first. The variant that cuts by cumulative share is the selector `cumulative`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.weights.magnitude import full


@criterion(unit="weights", needs=("weight", "input_norm"), sense="keep", within="output", card="wanda")
def wanda(layer: Any) -> Tensor:
    """Magnitude times input norm.

    Args:
        layer: `.weight [outputs, inputs]`, `.input_norm` with as many entries as inputs (convolutions: channel by channel,
            tap by tap), or as weights where outputs see different inputs (grouped convolutions).

    Returns:
        float `[outputs, inputs]`.
    """
    weight = full(layer.weight)
    norm = layer.input_norm.to(weight.dtype)
    if norm.numel() not in (weight.shape[1], weight.numel()):
        name = getattr(layer, "name", "the layer")
        raise BadInput(f"{name} has {weight.shape[1]} inputs but norms of {norm.numel()}")
    return weight.abs() * norm.reshape(-1, weight.shape[1])
