"""Linear centred kernel alignment: how alike two sets of features of the same rows are (Kornblith et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput


def linear_cka(x: Tensor, y: Tensor) -> float:
    """|X^T Y|^2 / (|X^T X| |Y^T Y|), Frobenius norms, columns centred; 0 where one side is constant.

    The smaller of the two forms is used: over features, or over rows.

    Args:
        x: `[n, d1]`.
        y: `[n, d2]`, the same rows.

    Returns:
        between 0 and 1; 1 for features equal up to rotation, scale and shift.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
        raise BadInput(f"features of the same rows are [n, d] each, not {list(x.shape)} and {list(y.shape)}")
    x, y = (side.double() - side.double().mean(0) for side in (x, y))
    if len(x) < min(x.shape[1], y.shape[1]):
        rows_x, rows_y = x @ x.T, y @ y.T
        cross, own = (rows_x * rows_y).sum(), rows_x.norm() * rows_y.norm()
    else:
        cross, own = (x.T @ y).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return float(torch.clamp(cross / own, 0.0, 1.0)) if float(own) > 0 else 0.0
