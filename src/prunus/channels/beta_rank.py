"""Beta-Rank: size of a filter's weights times the change of spread it causes in the data (Mofrad et al. 2023).

Removes: channels, neurons, heads.
Needs: the weights, and one batch of unlabelled rows (two at least).
Cost: one forward pass; two float64 numbers for each output position.
Departures: windows slide over the two spatial axes of the padded input. The released code slides them over the channel
 and row axes instead (parity="official", with the signal output_spread_official); on random data both rank alike. It
 uses the last batch only; here all rows of the pass count as one batch. A group that several matrices write takes the
 mean of their scores. Scores of a layer are moved and scaled to 0..1, so a global ranking drops the least of each layer
 first: cut with scope="group" for the paper's given ratios, or normalise="isomorphic".
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.channels.members import measured
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("weight", "output_spread"), sense="keep", normalise="minmax", card="beta-rank")
def beta_rank(group: Any, *, parity: Literal["paper", "official"] = "paper") -> Tensor:
    """Mean |w| of each channel times its spread ratio, mean over the writers.

    Args:
        group: writers with `.weight [units, per_unit, other]` and `output_spread [units, per_unit]` in `.outputs`.
        parity: official takes the windows of the released code.

    Returns:
        float64 `[size]`, before the scaling inside the layer.
    """
    signal = "output_spread" if parity == "paper" else "output_spread_official"
    scores = [
        writer.weight.detach().double().abs().mean(2).cpu() * spread for writer, spread in measured(group, signal)
    ]
    return torch.stack([score.sum(1) for score in scores]).mean(0)
