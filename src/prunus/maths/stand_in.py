"""Filters as linear combinations of other filters, and rounding to few bits: the closed forms of UDFC."""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput


def combination(
    targets: Tensor,
    target_shifts: Tensor,
    filters: Tensor,
    shifts: Tensor,
    *,
    alpha1: float,
    alpha2: float,
    start: Tensor | None = None,
) -> Tensor:
    """Coefficients s that minimise |f - sum s_i f_i|^2 + alpha1 (b - sum s_i b_i)^2 + alpha2 |s - start|^2.

    Args:
        targets, target_shifts: `[m, d]`, `[m]`: filters f and shifts b to make.
        filters, shifts: `[n, d]`, `[n]`: what they are made of.
        alpha1: weight of the shifts.
        alpha2: ridge.
        start: `[m, n]` the ridge pulls to; zeros by default.

    Returns:
        float64 `[m, n]`.
    """
    if alpha1 < 0 or alpha2 < 0:
        raise BadInput(f"alpha1 and alpha2 are 0 or more, not {alpha1} and {alpha2}")
    made, want = (with_shifts(f, b, alpha1) for f, b in ((filters, shifts), (targets, target_shifts)))
    gram = made @ made.T
    gram.diagonal().add_(
        alpha2 + 1e-12 * float(gram.diagonal().mean())
    )  # equal filters leave it singular at alpha2 = 0
    right = made @ want.T
    if start is not None:
        right += alpha2 * start.double().T
    return torch.linalg.solve(gram, right).T


def misfit(
    targets: Tensor, target_shifts: Tensor, filters: Tensor, shifts: Tensor, scales: Tensor, alpha1: float
) -> Tensor:
    """|f - sum s_i f_i|^2 + alpha1 (b - sum s_i b_i)^2 of each target, float64 `[m]`."""
    made, want = (with_shifts(f, b, alpha1) for f, b in ((filters, shifts), (targets, target_shifts)))
    return (want - scales.double() @ made).square().sum(1)


def with_shifts(filters: Tensor, shifts: Tensor, alpha1: float) -> Tensor:
    """Filters with sqrt(alpha1) * shift as one more element, float64 `[n, d + 1]`."""
    return torch.cat([filters.double(), alpha1**0.5 * shifts.double().unsqueeze(1)], dim=1)


def rounded(weight: Tensor, bits: int, *, per_output: bool = False) -> Tensor:
    """Nearest of 2^bits - 1 levels that are symmetric around 0, halves to even.

    Args:
        weight: `[outputs, ...]`.
        bits: 2 or more.
        per_output: a scale for each output instead of one for all.
    """
    if bits < 2:
        raise BadInput(f"weights need 2 bits or more, not {bits}")
    sizes = weight.abs()
    largest = sizes.flatten(1).amax(1).view(-1, *(1,) * (weight.dim() - 1)) if per_output else sizes.max()
    scale = largest / (2 ** (bits - 1) - 1)
    return torch.where(
        scale > 0, (weight / torch.where(scale > 0, scale, torch.ones_like(scale))).round() * scale, weight
    )
