"""D-Pruner: weights that a domain needs, or that general text needs (Zhang et al. 2024).

Removes: weights.
Needs: the hessian X X^T of the layer's inputs over general text; the mean gradient and the mean squared gradient of the
 loss over rows of the domain. One pass over each; with one set of rows both are measured on it.
Cost: one forward pass of the general text, one backward pass for each row of the domain, one factorisation of
 inputs^2, two numbers for each weight.
Departures: no code was released; written from the formulas. Not verified, and decided here: the step of the virtual update
 (alpha 0.03), the weight of the regulariser (lam 0.1), the absolute value around both terms, H without the factor 2. The
 general importance is divided by its mean in each layer, so that lam means the same everywhere (normalise=False: the literal
 formula). The regulariser is zero where the virtual step starts, so alpha=0 and lam=0 both leave the plain second-order Taylor score
 of the domain.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.maths.obs import damped_inverse, stacked


@criterion(
    unit="weights",
    needs=("weight", "hessian", "grad", "grad_square"),
    general=("hessian",),
    sense="keep",
    within="output",
    card="d-pruner",
)
def d_pruner(
    layer: Any,
    *,
    lam: float = 0.1,
    alpha: float = 0.03,
    damp: float = 0.01,
    normalise: bool = True,
    importance: Literal["dual", "general", "domain"] = "dual",
) -> Tensor:
    """Change of the domain's loss, with a penalty on moving what general text needs, when a weight goes.

    Args:
        layer: `.weight`, `.grad`, `.grad_square` `[outputs, inputs]`, `.hessian [inputs, inputs]` (`[groups, d, d]` for grouped
            convolutions).
        lam: weight of the regulariser; 0 leaves the domain alone.
        alpha: length of the virtual gradient step.
        damp: share of the mean diagonal that is added to the hessian; more when the factorisation fails.
        normalise: divide the general importance by its mean in the layer.
        importance: dual; or one ranking alone: general (the error of the layer's outputs on general text), domain (lam = 0).

    Returns:
        float64 `[outputs, inputs]`, at least 0.

    Raises:
        BadInput: statistics of another shape than the weight.
    """
    weight = layer.weight.detach().double()
    general = general_importance(layer, weight, damp)
    if importance == "general":
        return general
    grad, square = (_shaped(layer, name, weight) for name in ("grad", "grad_square"))
    if normalise:
        general = general / general.mean().clamp_min(torch.finfo(torch.float64).tiny)
    pull = 2 * (lam if importance == "dual" else 0.0) * general * (-alpha * grad)
    total = grad + pull
    fisher = square + 2 * pull * grad + pull.square()  # mean over rows of (gradient of the row + pull)^2
    return (total * weight - 0.5 * fisher * weight.square()).abs()


def general_importance(layer: Any, weight: Tensor, damp: float) -> Tensor:
    """w^2 / [H^-1]_cc: the error of the layer's outputs when the weight alone goes, float64 `[outputs, inputs]`."""
    hessians = stacked(layer.hessian)
    if hessians.shape[1:] != (weight.shape[1],) * 2:
        raise BadInput(f"{layer.name} has {weight.shape[1]} inputs but its hessian is {tuple(layer.hessian.shape)}")
    spread = torch.stack([damped_inverse(hessian, damp).diagonal() for hessian in hessians])
    return weight.square() / spread.repeat_interleave(len(weight) // len(hessians), 0)


def _shaped(layer: Any, name: str, weight: Tensor) -> Tensor:
    value = getattr(layer, name).double()
    if value.numel() != weight.numel():
        raise BadInput(f"{layer.name} has weights {tuple(weight.shape)} but {name} of {tuple(value.shape)}")
    return value.reshape(weight.shape)
