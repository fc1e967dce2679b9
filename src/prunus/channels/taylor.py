"""Taylor: first-order estimate of the loss change when a channel goes, |w * gradient| (Molchanov et al. 2019).

Removes: channels, neurons, heads.
Needs: the gradient of the mean loss over a few batches of fit data.
Cost: one forward and backward pass of these batches.
Departures: absolute values are taken weight by weight and then summed over every parameter that goes, norms and
 biases included (the default of the reference library and of LLM-Pruner). joint=True sums first: the honest
 first-order term of removing them together, but near a minimum it is close to 0 for every channel and drowns in noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.channels.members import learnt
from prunus.core.registry import criterion


@criterion(
    unit="channels",
    needs=("weight", "grad"),
    sense="keep",
    normalise="mean",
    compensate="joint_ls",
    card="torch-pruning",
)
def taylor(group: Any, *, joint: bool = False) -> Tensor:
    """Sum of |w * gradient| over all parameters of each channel.

    Args:
        group: Members with `.weight` and `.grad`, `[units, per_unit, other]`; members without gradient (buffers) are
            left out.
        joint: sum w * gradient inside each member before taking the absolute value.

    Returns:
        float64 `[size]`.

    Raises:
        BadInput: no member has a gradient.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    for member in learnt(group, "grad"):
        change = member.weight.detach().float() * member.grad.float()
        total += (
            change.sum((1, 2), dtype=torch.float64).abs() if joint else change.abs().sum((1, 2), dtype=torch.float64)
        )
    return total
