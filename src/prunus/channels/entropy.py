"""Entropy: channels whose activations say little about the row go first (Luo and Wu 2017).

Removes: channels, neurons, heads.
Needs: the mean activation of each channel for each row, over a few hundred rows; no labels.
Cost: one forward pass, rows * channels numbers.
Departures: activations are taken where a channel is read, pooled over positions as in the paper; each channel's values
 fall into equal bins between its own least and largest, so the scale of a channel does not matter. of="state" is the
 entropy of being above zero or not, position by position, as later work on ReLU networks takes it. No card.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.channels.members import read_signal
from prunus.core.errors import BadInput
from prunus.core.registry import criterion


@criterion(unit="channels", needs=("input_pooled", "input_off"), sense="keep")
def entropy(group: Any, *, of: Literal["values", "state"] = "values", bins: int = 100) -> Tensor:
    """Entropy of each channel over the rows, in nats, mean over what it owns in its readers.

    Args:
        group: readers with `.input_pooled [units, inputs, rows]` and `.input_off [units, inputs]`.
        of: the pooled values, or the state on / off.
        bins: equal bins between a channel's least and largest value.

    Returns:
        float64 `[size]`: 0 for a constant channel, at most log(bins) or log(2).
    """
    if bins < 1:
        raise BadInput(f"bins must be 1 or more, not {bins}")
    if of == "state":
        shares = [off.double() for off in read_signal(group, "input_off")]
        return torch.stack([entropy_of(torch.stack([off, 1 - off], 2)).mean(1) for off in shares]).mean(0)
    found = []
    for values in read_signal(group, "input_pooled"):
        shares = histogram(values.double().flatten(0, 1), bins)
        found.append(entropy_of(shares).reshape(values.shape[:2]).mean(1))
    return torch.stack(found).mean(0)


def histogram(values: Tensor, bins: int) -> Tensor:
    """Shares of each line's values in equal bins between its least and largest.

    Args:
        values: float64 `[n, rows]`.
        bins: how many.

    Returns:
        float64 `[n, bins]`; a constant line has all of it in the first bin.
    """
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    place = ((values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny) * bins).long().clamp_max(bins - 1)
    counts = torch.zeros(len(values), bins, dtype=torch.float64)
    return counts.scatter_add_(1, place, torch.ones_like(values)) / values.shape[1]


def entropy_of(shares: Tensor) -> Tensor:
    """-sum p log p over the last axis; 0 log 0 is 0."""
    return -torch.special.xlogy(shares, shares).sum(-1)
