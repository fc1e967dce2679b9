"""Sums of x x^T in blocks on and above the diagonal: half of the products, and symmetric to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 384


def add_upper(total: Tensor, x: Tensor) -> None:
    """Add x^T x to the blocks on and above the diagonal, in place.

    Args:
        total: `[..., d, d]`.
        x: `[..., n, d]`.
    """
    width = x.shape[-1]
    for start in range(0, width, BLOCK):
        stop = min(start + BLOCK, width)
        total[..., start:stop, start:] += x[..., start:stop].mT @ x[..., start:]


def mirrored(total: Tensor) -> Tensor:
    """The whole matrix of what `add_upper` has summed; `total` is used up."""
    upper = total.triu_()
    return upper + upper.mT - torch.diag_embed(upper.diagonal(dim1=-2, dim2=-1))
