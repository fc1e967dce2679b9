"""Herding: keep units whose running mean stays nearest the mean of all (Welling 2009; for coresets Chen et al. 2010).

Removes: units that the mean does not need.
Needs: embedding; labels for `within="class"`. The score itself is only checked.
Cost: n d m multiplications in float32 for m kept units; those in doubt are decided in float64. Memory 4 n d + 60 n bytes.
Departures: DeepCore's code takes the argmax of the distance it should minimise, and so keeps outliers (digits, 5 % kept:
  0.48 against 0.90 on the card); parity="official" does that too. Each step is one product with the residual
  `(t + 1) mean - sum of the kept`, which is accumulated in float64, where the released code forms all n vectors of
  differences. Without replacement, as released; of equal distances the lower id wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.certified import Linear, squared_norms
from prunus.select.vectors import Start, Vectors, choose, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@selector(needs=("embedding",), card="coreset-baselines", within="all", memory="4 * n * d + 60 * n + 65536 * d")
def herding(
    score: GroupScore,
    count: int,
    *,
    start: Start = (),
    within: Literal["all", "class"] = "all",
    parity: Literal["paper", "official"] = "paper",
) -> Positions:
    """Positions of units that match the mean, in the order of picking; a smaller count keeps a subset.

    Args:
        score: with `embedding [n, d]` among its signals.
        count: units kept.
        start: ids of units that are kept first; they count.
        within: all = one mean; class = the mean of every label, counts in proportion (rows).
        parity: paper, or official for the released argmax.

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding, an impossible count, an unknown id in start.
        NonFinite: an embedding or a score is NaN or infinite.
    """
    sign = -1.0 if parity == "official" else 1.0

    def one(piece: GroupScore, few: int) -> Positions:
        found = vectors(piece)
        return found.order[match_mean(found, found.places(start, few), few, sign)]

    return choose(score, count, within, start, one)


def match_mean(found: Vectors, begin: Positions, count: int, sign: float = 1.0) -> Positions:
    """`begin`, then always the unit nearest `(t + 1) mean - sum` (farthest for sign -1), int64 `[count]`."""
    x, left = found.x, np.ones(found.x.shape[0], dtype=bool)
    mean, total = x.mean(0, dtype=np.float64), x[begin].sum(0, dtype=np.float64)
    # |r - h|^2 = |r|^2 - 2 r . h + |h|^2, and |r| is the same for all.
    linear, base = Linear(x), -sign * squared_norms(x)
    picked = begin.tolist()
    left[begin] = False
    while len(picked) < count:
        residual = (len(picked) + 1) * mean - total
        unit = linear.largest(base, 2 * sign * residual, left)
        picked.append(unit)
        left[unit] = False
        total += x[unit]
    return np.array(picked, dtype=np.int64)
