"""Hessian diagonal: w^2 times the curvature of the loss along each weight (LeCun et al. 1989, OBD, over channels).

Removes: channels, neurons, heads.
Needs: the mean over rows of the squared gradient of each row's loss, over some tens of rows of fit data.
Cost: one forward and backward pass for each row; two numbers for each parameter.
Departures: the diagonal of the Hessian is taken to be that of the empirical Fisher matrix, which is what the reference
 libraries for channels and for language models do too; the factor 1/2 is left out. Summed over every parameter that
 goes, norms and biases included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.channels.members import learnt
from prunus.core.registry import criterion


@criterion(
    unit="channels",
    needs=("weight", "grad_square"),
    sense="keep",
    normalise="mean",
    compensate="joint_ls",
    card="llm-pruner",
)
def hessian_diagonal(group: Any) -> Tensor:
    """Sum of w^2 times the mean squared gradient over all parameters of each channel.

    Args:
        group: Members with `.weight` and `.grad_square`, `[units, per_unit, other]`; members without are left out.

    Returns:
        float64 `[size]`.

    Raises:
        BadInput: no member has a squared gradient.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in learnt(group, "grad_square"):
        change = member.weight.detach().double().square() * member.grad_square.double()
        total += change.sum((1, 2)).cpu()
    return total
