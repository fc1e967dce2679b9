"""Graph cut: keep units similar to all and dissimilar to each other (Iyer et al. 2021; as in DeepCore 2022).

Removes: outliers, and units similar to a kept one.
Needs: embedding, no zero vectors; labels for `within="class"`. The score itself is only checked.
Cost: n d m multiplications in float32 for m kept units, memory 16 n d + 60 n bytes: with a cosine, gains are products with
  one vector, so no similarity is ever stored. Units in doubt are decided in float64.
Departures: similarity `0.5 + 0.5 cos` of embeddings, where DeepCore takes last-layer gradients and n² of them. The default
  lam=2 is the least for which the function never falls and greedy has its guarantee; DeepCore uses 1. Zero vectors are
  refused by id. Of equal gains the lower id wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.certified import Linear
from prunus.select.vectors import Start, choose, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@selector(needs=("embedding",), card="coreset-baselines", within="all", memory="16 * n * d + 60 * n + 65536 * d")
def graph_cut(
    score: GroupScore,
    count: int,
    *,
    lam: float = 2.0,
    start: Start = (),
    within: Literal["all", "class"] = "all",
) -> Positions:
    """Positions of units typical of all and unlike each other, in the order of picking; a smaller count keeps a subset.

    Args:
        score: with `embedding [n, d]` among its signals.
        count: units kept.
        lam: weight of the similarity to all units against that among the kept ones.
        start: ids of units that are kept first; they count.
        within: all = one function; class = one for every label, counts in proportion (rows).

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding, a zero one, a negative lam, an impossible count, an unknown id in start.
        NonFinite: an embedding or a score is NaN or infinite.
    """
    if not 0 <= lam < np.inf:
        raise BadInput(f"lam must be 0 or more, not {lam}")

    def one(piece: GroupScore, few: int) -> Positions:
        found = vectors(piece)
        return found.order[cut(found.directions("graph cut"), lam, found.places(start, few), few)]

    return choose(score, count, within, start, one)


def cut(directions: NDArray[np.float64], lam: float, begin: Positions, count: int) -> Positions:
    """`begin`, then always the unit of the largest gain `lam sum_i s_ij - 2 sum_{i kept} s_ij - s_jj`, int64 `[count]`.

    With s = (1 + u_i . u_j) / 2 all but `u_j . (lam sum_i u_i / 2 - sum_{i kept} u_i)` is the same for every j.
    """
    left, base = np.ones(directions.shape[0], dtype=bool), np.zeros(directions.shape[0])
    linear = Linear(directions)
    direction = lam / 2 * directions.sum(0) - directions[begin].sum(0)
    picked = begin.tolist()
    left[begin] = False
    while len(picked) < count:
        unit = linear.largest(base, direction, left)
        picked.append(unit)
        left[unit] = False
        direction -= directions[unit]
    return np.array(picked, dtype=np.int64)
