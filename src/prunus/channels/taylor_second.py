"""Taylor, second order: |w * gradient - w^2 * curvature / 2| when a channel goes (Ma et al. 2023, LLM-Pruner).

Removes: channels, neurons, heads.
Needs: the gradient of the mean loss, and the mean over rows of the squared gradient of each row's loss.
Cost: one forward and backward pass for each row; three numbers for each parameter.
Departures: the curvature is the diagonal of the empirical Fisher matrix, off-diagonal terms are left out. Absolute values
 are taken weight by weight and summed over every parameter that goes, as in taylor; joint=True sums each member first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.channels.members import learnt
from prunus.core.registry import criterion


@criterion(
    unit="channels",
    needs=("weight", "grad", "grad_square"),
    sense="keep",
    normalise="mean",
    compensate="joint_ls",
    card="llm-pruner",
)
def taylor_second(group: Any, *, joint: bool = False) -> Tensor:
    """Estimated change of the loss to second order, for each channel.

    Args:
        group: Members with `.weight`, `.grad` and `.grad_square`, `[units, per_unit, other]`; members without are left
            out.
        joint: sum inside each member before taking the absolute value.

    Returns:
        float64 `[size]`.

    Raises:
        BadInput: no member has gradients.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in learnt(group, "grad", "grad_square"):
        weight = member.weight.detach().double()
        change = weight * member.grad.double() - weight.square() * member.grad_square.double() / 2
        total += (change.sum((1, 2)).abs() if joint else change.abs().sum((1, 2))).cpu()
    return total
