"""Cumulative: each output loses its smallest scores up to a common share (Sun et al. 2023, variant of Wanda).

Removes: weights; outputs end with different sparsities.
Needs: a score `[outputs, inputs]`, not negative.
Cost: one sort of every output.
Departures: the paper's bisection stops within 0.1 % of the target; the default here goes to its limit, which has a
 closed form: a weight's share of its output's sum, counted from below, is its new score, and the `count` largest of
 the matrix stay. parity="official" bisects alpha from 0.4 in [0, 0.8] in float32 as released, except that an output
 with nothing below its share loses nothing (released: an error).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.partial import keep_largest
from prunus.select.per_group import as_lines, check_count

PRECISION = 1e-3


@selector(unit="weights", card="wanda")
def cumulative(
    score: GroupScore, count: int, *, parity: Literal["paper", "official"] = "paper", sparsity: float = 0.0
) -> np.ndarray:
    """Drop the weights that make up the lowest share of each output's sum.

    Args:
        score: values `[outputs, inputs]`, not negative.
        count: how many stay (official: about how many).
        parity: official bisects the share; paper keeps exactly `count`.
        sparsity: official only: the exact target; 0 = 1 - count / size.

    Returns:
        int64 flat positions that stay, sorted.
    """
    values = as_lines(score)
    check_count(score, count)
    if values.min() < 0:
        raise BadInput(f"cumulative shares need scores >= 0, {score.name or 'this group'} has {values.min():g}")
    if parity == "official":
        return np.flatnonzero(_bisected(torch.from_numpy(values), sparsity or 1 - count / values.size))
    order = np.argsort(values, axis=1, kind="stable")
    sums = np.take_along_axis(values, order, 1).cumsum(1, dtype=np.float64)
    shares = np.empty(sums.shape)
    np.put_along_axis(shares, order, sums / np.maximum(sums[:, -1:], np.finfo(np.float64).tiny), 1)
    return np.flatnonzero(keep_largest(shares.reshape(1, -1), count))


def _bisected(values: Tensor, sparsity: float) -> np.ndarray:
    ascending = torch.sort(values, dim=1, stable=True).values
    sums, totals = ascending.cumsum(1), values.sum(1, keepdim=True)

    def kept(share: float) -> Tensor:
        below = (sums <= totals * share).sum(1, keepdim=True)
        cut = ascending.gather(1, (below - 1).clamp(min=0))
        return (values > cut) | (below == 0)

    low, high, share = 0.0, 0.8, 0.4
    while True:
        mask = kept(share)
        excess = (~mask).sum() / mask.numel() - sparsity
        if not (excess.abs() > PRECISION and high - low >= PRECISION):
            return mask.numpy()
        low, high = (low, share) if excess > 0 else (share, high)
        share = (low + high) / 2
