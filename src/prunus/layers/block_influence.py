"""Block influence: how far a block turns its hidden state, mean of 1 - cos over tokens (Men et al. 2024, ShortGPT).

Removes: layers (blocks whose output has the shape of their input).
Needs: hidden states before and after every block over calibration text, padding left out.
Cost: one forward pass; two dot products for each token and block.
Departures: the mean over real tokens; the released sums count padding too (parity="official" gives the sum). Raw
 block outputs are compared: the released code reads the last hidden state after the final norm, which distorts the
 last block. Cosines with zero vectors count as 0.5, as released. The first block is protected by the plan's pin, not
 by its score.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.core.errors import NonFinite
from prunus.core.registry import criterion


@criterion(
    unit="layers", needs=("block_influence", "block_angle", "block_tokens"), sense="keep", pin="first", card="shortgpt"
)
def block_influence(layer: Any, *, angular: bool = False, parity: Literal["paper", "official"] = "paper") -> Tensor:
    """Mean turn of the hidden state in one block.

    Args:
        layer: `.block_influence` and `.block_angle`, means over tokens, and `.block_tokens`, how many.
        angular: the angle over pi instead of 1 - cos.
        parity: official gives the sum over tokens instead of the mean.

    Returns:
        float64 scalar: 0 for a block that changes nothing, at most 2 (official: times tokens).
    """
    value = layer.block_angle if angular else layer.block_influence
    total = torch.as_tensor(value, dtype=torch.float64)
    if not torch.isfinite(total):
        raise NonFinite(
            f"block {getattr(layer, 'name', '')} has influence {float(total)}: NaN activations, or no token"
        )
    return total * float(layer.block_tokens) if parity == "official" else total
