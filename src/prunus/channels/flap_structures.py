"""The four released structures of FLAP: which heads and neurons stay, given their scores, by the released thresholds.

For parity and comparison only: they assume equal layers, may empty one, and miss the target by up to a head. A plan
uses the allocators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from prunus.core.errors import BadInput

Structure = Literal["AL-AM", "AL-MM", "UL-UM", "UL-MM"]
Masks = tuple[Tensor, Tensor]


def released_masks(
    heads: Sequence[Tensor],
    neurons: Sequence[Tensor],
    *,
    structure: Structure = "AL-AM",
    ratio: float,
    remove_heads: int = 0,
    head_dim: int,
    hidden: int = 0,
) -> Masks:
    """Masks of heads `[layers, heads]` and neurons `[layers, neurons]`, True stays.

    Args:
        heads, neurons: for each layer the scores of its units (`flap`).
        structure: A = adaptive (ranked over all layers), U = uniform; L = layers, M = modules (attention against
            feed-forward).
        ratio: share of the parameters that goes.
        remove_heads: heads to remove in all, for the structures that fix it.
        head_dim: columns of a head.
        hidden: width of the model, which the released count of parameters takes for the width of attention; 0 = heads
            * head_dim.
    """
    attention, mlp = torch.stack(list(heads)), torch.stack(list(neurons))
    if structure == "AL-AM":
        return _one_ranking(attention, mlp, ratio, head_dim)
    if structure == "AL-MM":
        removed = _removed_neurons(attention, mlp, ratio, remove_heads, head_dim, hidden)
        return _above(attention, remove_heads), _above(mlp, removed)
    if structure not in ("UL-UM", "UL-MM"):
        raise BadInput(f"structure is AL-AM, AL-MM, UL-UM or UL-MM, not {structure!r}")
    gone = (int(ratio * attention.shape[1]), int(ratio * mlp.shape[1]))
    if structure == "UL-MM":
        each = remove_heads // len(heads)
        gone = each, _removed_neurons(attention[:1], mlp[:1], ratio, each, head_dim, hidden)
    return tuple(scores >= scores.sort(dim=1).values[:, n : n + 1] for scores, n in zip((attention, mlp), gone))  # type: ignore[return-value]


def _one_ranking(attention: Tensor, mlp: Tensor, ratio: float, head_dim: int) -> Masks:
    """Heads and neurons in one ranking; a head weighs as many neurons as have its parameters, in whole neurons."""
    scores, order = torch.cat([attention.reshape(-1), mlp.reshape(-1)]).sort(descending=True)
    weight = torch.ones_like(order)
    weight[order < attention.numel()] = 4 * head_dim // 3
    kept = (weight.cumsum(0) - weight.sum() * (1 - ratio)).abs().argmin()
    return attention > scores[kept], mlp > scores[kept]


def _above(scores: Tensor, removed: int) -> Tensor:
    return (
        scores > scores.reshape(-1).sort().values[removed - 1]
        if removed > 0
        else torch.ones_like(scores, dtype=torch.bool)
    )


def _removed_neurons(
    attention: Tensor, mlp: Tensor, ratio: float, remove_heads: int, head_dim: int, hidden: int
) -> int:
    """Neurons that must go beside the heads; a head has 4 * head_dim * d parameters, a neuron 3 * d."""
    width = hidden or head_dim * attention.shape[1]
    parameters = ratio * (3 * mlp.numel() + 4 * width * len(attention))
    return max(int((parameters - 4 * head_dim * remove_heads) / 3), 0)
