"""OBSPA: loss when the columns that read a channel go, by Optimal Brain Surgeon (Wang et al. 2024, SPA).

Removes: channels, neurons, heads.
Needs: the hessian X X^T of the inputs of every reader (unfolded for convolutions); no labels.
Cost: one calibration pass, one inverse of size inputs * taps for each reader.
Departures: no code was released; the score is w^2 over the inverse's diagonal, summed over outputs, taps and readers.
 score="block" removes all columns of a channel at once, which is exact for heads and kernels and costs little more.
 Damping is 1 % of the mean diagonal and grows when the factorisation fails. What matters more than the score is the
 update: joint_ls by default.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.channels.members import matrices
from prunus.core.registry import criterion
from prunus.maths.obs import block_scores, column_scores, damped_inverse


@criterion(
    unit="channels", needs=("weight", "hessian"), sense="keep", normalise="mean", compensate="joint_ls", card="spa"
)
def obspa(group: Any, *, damp: float = 0.01, score: Literal["diagonal", "block"] = "diagonal") -> Tensor:
    """Squared output error from removing each channel, over all readers.

    Args:
        group: readers with `.weight [units, per_unit, other]` and `.hessian [units * per_unit, units * per_unit]`.
        damp: share of the mean diagonal that is added to it.
        score: diagonal sums columns as if each went alone; block takes the columns of a channel together.

    Returns:
        float64 `[size]`, in the units of the hessian.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    for reader in matrices(group, "readers"):
        units, width, other = reader.weight.shape
        weight = reader.weight.detach().reshape(units * width, other).T
        inverse = damped_inverse(reader.hessian, damp)
        if score == "block":
            total += block_scores(weight, inverse, width)
        else:
            total += column_scores(weight, inverse).sum(0).reshape(units, width).sum(1)
    return total
