"""L1: sum of absolute weights of a channel (Li et al. 2017), over every matrix that makes or reads it.

Removes: channels, neurons, heads.
Needs: the weights only.
Cost: one pass over the weights.
Departures: the paper looks at the filters that make the channel only (members="writers"); a channel of a residual
 stream is made by many and read by many, and the sum over all of them ranks better there. Norm scales and biases are
 left out: their size says nothing about the weights.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from prunus.channels.members import summed
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("weight",), sense="keep", normalise="mean", card="torch-pruning")
def l1(group: Any, *, members: Literal["all", "writers", "readers"] = "all") -> Tensor:
    """Sum of absolute weights of each channel.

    Args:
        group: Members with `.weight [units, per_unit, other]`.
        members: which matrices count.

    Returns:
        float `[size]`.
    """
    return summed(group, members, lambda m: m.weight.detach().float().abs())
