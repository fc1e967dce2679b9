"""How far a block turns its hidden state, token by token: row-wise, never a tokens x tokens matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from prunus.core.errors import BadInput

UNDEFINED = 0.5
"""The cosine with a zero vector, as the released code of ShortGPT has it."""


def cosine(before: Tensor, after: Tensor) -> Tensor:
    """Cosine of each row with its partner, in [-1, 1]; 0.5 where one of them is zero.

    Args:
        before, after: `[..., dim]` of one shape.

    Returns:
        at least float32 `[...]`.
    """
    if before.shape != after.shape:
        raise BadInput(
            f"hidden states before and after a block have shapes {tuple(before.shape)} and {tuple(after.shape)}"
        )
    x, y = (z.float() if z.dtype.itemsize < 4 else z for z in (before.detach(), after.detach()))
    norms = x.norm(dim=-1) * y.norm(dim=-1)
    dot = torch.linalg.vecdot(x, y)
    return torch.where(norms == 0, torch.full_like(dot, UNDEFINED), dot / norms).clamp(-1, 1)


def angle(cosines: Tensor) -> Tensor:
    """arccos / pi, in [0, 1]. In float64: near 1 the arccosine magnifies rounding."""
    return torch.arccos(cosines.double()) / math.pi
