"""L2: sum of squared weights of a channel, over every matrix that makes or reads it (group norm of Fang et al. 2023).

Removes: channels, neurons, heads.
Needs: the weights only.
Cost: one pass over the weights.
Departures: as in the reference library no root is taken; that changes nothing inside a group. The sum over matrices
 is theirs up to the number of matrices; norm scales are left out, as they are in l1.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from prunus.channels.members import summed
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("weight",), sense="keep", normalise="mean", card="torch-pruning")
def l2(group: Any, *, members: Literal["all", "writers", "readers"] = "all") -> Tensor:
    """Sum of squared weights of each channel.

    Args:
        group: Members with `.weight [units, per_unit, other]`.
        members: which matrices count.

    Returns:
        float `[size]`.
    """
    return summed(group, members, lambda m: m.weight.detach().float().square())
