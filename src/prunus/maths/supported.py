"""Least squares on a layer's outputs with every output free on its own support only (Meng et al. 2024; Boza 2024).

Minimises trace((W - V) H (W - V)^T) over W that is zero outside of the mask, for V the dense weights: one small system for each
output. All outputs are solved together by conjugate gradients with the diagonal as preconditioner.
"""

from __future__ import annotations

import torch
from torch import Tensor


def supported(
    dense: Tensor,
    hessian: Tensor,
    kept: Tensor,
    *,
    start: Tensor | None = None,
    iterations: int = 100,
    tolerance: float = 1e-8,
) -> Tensor:
    """The best weights under a mask.

    Args:
        dense: `[outputs, inputs]`, float64.
        hessian: `[inputs, inputs]`, float64, damped.
        kept: bool `[outputs, inputs]`.
        start: where to begin; the masked dense weights by default. The error never ends above that of the start.
        iterations: of conjugate gradients; as many as inputs are exact but for rounding.
        tolerance: stop when every output's residual fell below this share of that of zero weights.

    Returns:
        float64 `[outputs, inputs]`, zero outside of the mask.
    """
    on = kept.to(torch.float64)
    scale = on / hessian.diagonal()
    new = on * (dense if start is None else start)
    goal = dense @ hessian
    residual = on * (goal - new @ hessian)
    least = tolerance**2 * (on * goal).square().sum(1)
    step = scale * residual
    product = (residual * step).sum(1, keepdim=True)
    for _ in range(iterations):
        busy = (residual.square().sum(1) > least).unsqueeze(1)
        if not bool(busy.any()):
            break
        turned = on * (step @ hessian)
        length = torch.where(busy, product / (step * turned).sum(1, keepdim=True).clamp_min(1e-300), 0.0)
        new = new + length * step
        residual = residual - length * turned
        ahead = scale * residual
        following = (residual * ahead).sum(1, keepdim=True)
        step = ahead + torch.where(busy, following / product.clamp_min(1e-300), 0.0) * step
        product = following
    return new
