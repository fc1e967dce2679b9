"""Centred kernel alignment (CKA): how alike two sets of features of the same rows are (Kornblith et al. 2019).

The debiased forms put the unbiased estimate of HSIC (Song et al. 2012) in place of the squared norms: few rows then do not
make unrelated features look alike, and values can be below 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput


def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> float:
    """|X^T Y|^2 / (|X^T X| |Y^T Y|), Frobenius norms, columns centred; 0 where one side is constant.

    The smaller of the two forms is used: over features, or over rows.

    Args:
        x: `[n, d1]`.
        y: `[n, d2]`, the same rows.
        debiased: subtract what is expected of unrelated features; needs 4 rows.

    Returns:
        between 0 and 1; 1 for features equal up to rotation, scale and shift. Debiased, it can be negative.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
        raise BadInput(f"features of the same rows are [n, d] each, not {list(x.shape)} and {list(y.shape)}")
    x, y = (side.double() - side.double().mean(0) for side in (x, y))
    if len(x) < min(x.shape[1], y.shape[1]):
        return kernel_cka(x @ x.T, y @ y.T, debiased=debiased)
    products = (_squared(a, b, debiased) for a, b in ((x, y), (x, x), (y, y)))
    return _ratio(*products, debiased=debiased)


def kernel_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> float:
    """CKA of two kernels of the same rows, uncentred: the same number as `linear_cka` for linear kernels.

    Args:
        x, y: `[n, n]`, symmetric. For 6,400 rows each is 330 MB: take `linear_cka` where the kernel is linear.
        debiased: see `linear_cka`.
    """
    if x.dim() != 2 or x.shape != y.shape or x.shape[0] != x.shape[1]:
        raise BadInput(f"kernels of the same rows are [n, n] each, not {list(x.shape)} and {list(y.shape)}")
    centre = _hollow if debiased else _centred
    x, y = centre(x.double()), centre(y.double())
    return _ratio((x * y).sum(), (x * x).sum(), (y * y).sum(), debiased=debiased)


def linear_kernel(x: Tensor) -> Tensor:
    """Inner products of rows `[n, d]`: float64 `[n, n]`."""
    return x.double() @ x.double().T


def rbf_kernel(x: Tensor, *, width: float = 0.5) -> Tensor:
    """exp(-d^2 / (2 width^2 median(d^2))) of all pairs of rows `[n, d]`: float64 `[n, n]`.

    Args:
        x: `[n, d]`.
        width: bandwidth as a share of the median distance, the median taken over all n^2 pairs.
    """
    if not width > 0:
        raise BadInput(f"the width of a kernel is above 0, not {width}")
    products = linear_kernel(x)
    own = products.diagonal()
    squares = own[:, None] + own[None] - 2 * products
    middle = float(np.median(squares.numpy()))
    return torch.exp(-squares / (2 * width**2 * middle))


def _squared(x: Tensor, y: Tensor, debiased: bool) -> Tensor:
    """Squared norm of X^T Y of centred features, or its unbiased counterpart."""
    cross = (x.T @ y).square().sum()
    if not debiased:
        return cross
    n, rows_x, rows_y = _enough(len(x)), x.square().sum(1), y.square().sum(1)
    return cross - n / (n - 2) * rows_x @ rows_y + rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2))


def _centred(kernel: Tensor) -> Tensor:
    means = kernel.mean(0)
    return kernel - means[:, None] - means[None] + means.mean()


def _hollow(kernel: Tensor) -> Tensor:
    """The kernel without its diagonal, centred so that every line of it sums to 0."""
    n = _enough(len(kernel))
    kernel = kernel - torch.diag(kernel.diagonal())
    means = kernel.sum(0) / (n - 2)
    means = means - means.sum() / (2 * (n - 1))
    kernel = kernel - means[:, None] - means[None]
    return kernel - torch.diag(kernel.diagonal())


def _enough(rows: int) -> int:
    if rows < 4:
        raise BadInput(f"a debiased CKA needs 4 rows, not {rows}")
    return rows


def _ratio(cross: Tensor, x: Tensor, y: Tensor, *, debiased: bool) -> float:
    own = x.clamp_min(0).sqrt() * y.clamp_min(0).sqrt()
    if not float(own) > 0:
        return 0.0
    return float(torch.clamp(cross / own, -1.0 if debiased else 0.0, 1.0))
