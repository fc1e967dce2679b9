"""How far a block turns its hidden state: 1 - cos, token by token. Row-wise, never a tokens x tokens matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from prunus.core.errors import BadInput

UNDEFINED = 0.5
"""The cosine with a zero vector, as the released code of ShortGPT has it."""


def turn(before: Tensor, after: Tensor, *, angular: bool = False) -> Tensor:
    """1 - cos(before, after), or the angle over pi, of every token.

    Args:
        before, after: `[..., dim]` of one shape.
        angular: arccos(cos) / pi, in [0, 1], instead of 1 - cos, in [0, 2].

    Returns:
        float64 `[...]`; cosines with zero vectors count as 0.5.
    """
    if before.shape != after.shape:
        raise BadInput(
            f"hidden states before and after a block have shapes {tuple(before.shape)} and {tuple(after.shape)}"
        )
    x, y = before.detach().double(), after.detach().double()
    cosine = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))
    cosine = cosine.nan_to_num(UNDEFINED, posinf=math.inf, neginf=-math.inf).clamp(-1, 1)
    return torch.arccos(cosine) / math.pi if angular else 1 - cosine


def mean_turn(before: Tensor, after: Tensor, mask: Tensor | None = None, *, angular: bool = False) -> tuple[float, int]:
    """Mean of `turn` over the tokens that are no padding, and how many they are (NaN where there are none).

    Args:
        before, after: `[batch, token, dim]`.
        mask: bool or 0/1 `[batch, token]`, true at tokens that count; None = all.
        angular: as in `turn`.
    """
    values = turn(before, after, angular=angular)
    if mask is not None:
        values = values[mask.bool()]
    return float(values.mean()), values.numel()
