"""APoZ: channels that are switched off most of the time go first (Hu et al. 2016, Network Trimming).

Removes: channels, neurons, heads.
Needs: the share of each channel's activations that are not above zero, over a few hundred rows; no labels.
Cost: one forward pass, one number for each channel that is read.
Departures: the paper counts exact zeros after a ReLU and drops channels a deviation above the mean in one layer; here
 the score is the share of activations above zero, where the channel is read, and the budget says how many go. Entries
 below zero count as off, which changes nothing after a ReLU and gives GELU and SiLU networks a meaning. No card.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.channels.members import read_signal
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("input_off",), sense="keep")
def apoz(group: Any) -> Tensor:
    """Share of activations above zero, mean over the readers of each channel.

    Args:
        group: readers with `.input_off [units, inputs]`.

    Returns:
        float64 `[size]`, 0 to 1.
    """
    return torch.stack([1 - off.double().mean(1) for off in read_signal(group, "input_off")]).mean(0)
