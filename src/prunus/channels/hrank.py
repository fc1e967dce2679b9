"""HRank: channels whose feature maps have low rank go first (Lin et al. 2020).

Removes: channels, neurons, heads.
Needs: the mean rank of each channel's feature maps over a few hundred rows; no labels.
Cost: one forward pass and one singular value decomposition for each map.
Departures: maps are taken where a channel is read, after norm and activation, as in the released code; a channel with
 several readers takes their mean. Channels that a linear layer reads are vectors: their rank is the share of rows in
 which they are not zero. Held by the case of beta-rank, whose release contains it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.channels.members import read_signal
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("input_rank",), sense="keep", normalise="mean", card="beta-rank")
def hrank(group: Any) -> Tensor:
    """Mean rank of the maps of each channel, mean over its readers.

    Args:
        group: readers with `.input_rank [units, inputs]`.

    Returns:
        float64 `[size]`.
    """
    return torch.stack([ranks.double().mean(1) for ranks in read_signal(group, "input_rank")]).mean(0)
