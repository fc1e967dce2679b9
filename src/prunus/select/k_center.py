"""k-centre greedy: keep adding the unit farthest from all kept ones (Gonzalez 1985; for coresets Sener and Savarese 2018).

Removes: units close to a kept one.
Needs: embedding; labels for `within="class"`. The score itself is only checked.
Cost: at most n d m multiplications in float32 for m kept units, by blocks of 32 centres; the few units in doubt are decided
  in float64. Memory 8 n d + 80 n bytes.
Departures: the covering radius is at most twice the best one, as proved. DeepCore holds an `[k, n]` matrix of distances and
  copies the unselected rows at every step; here the state is O(n) and the picks are those of exact arithmetic: float32
  products bound the running minimum, float64 differences decide, and of equal distances the lower id wins. The first
  centre is the unit nearest the mean (or one at random, or given), where DeepCore draws it from numpy's global
  generator. Sener and Savarese refine the greedy set with an integer program, which is not done here, as nowhere in
  the field. Far units include mislabelled ones: with 20 % wrong labels it is far below random (card).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.certified import Farthest, Linear, squared_norms
from prunus.select.vectors import Start, Vectors, choose, vectors

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions


@selector(needs=("embedding",), card="coreset-baselines", within="all", memory="8 * n * d + 80 * n + 65536 * d")
def k_center(
    score: GroupScore,
    count: int,
    *,
    first: Literal["central", "random"] = "central",
    start: Start = (),
    within: Literal["all", "class"] = "all",
    rng: Rng,
) -> Positions:
    """Positions of centres that leave no unit far from one, in the order of picking; a smaller count keeps a subset.

    Args:
        score: with `embedding [n, d]` among its signals; Euclidean distances.
        count: units kept.
        first: the first centre: central = the unit nearest the mean; random = one drawn by `rng`.
        start: ids of units that are kept first, instead of `first`; they count.
        within: all = as published; class = inside every label, counts in proportion (rows).
        rng: seed and purpose, for first="random".

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding, an impossible count, an unknown id in start.
        NonFinite: an embedding or a score is NaN or infinite.
    """

    def one(piece: GroupScore, few: int) -> Positions:
        found = vectors(piece)
        begin = found.places(start, few)
        if not begin.size:
            begin = rng.sample(found.ids, 1) if first == "random" else central(found)
        return found.order[farthest_first(found, begin, few)]

    return choose(score, count, within, start, one)


def central(found: Vectors) -> Positions:
    """The unit nearest the mean, int64 `[1]`; of equals the lower id."""
    n = found.x.shape[0]
    mean = found.x.mean(0, dtype=np.float64)
    return np.array([Linear(found.x).largest(-squared_norms(found.x), 2 * mean, np.ones(n, dtype=bool))])


def farthest_first(found: Vectors, begin: Positions, count: int) -> Positions:
    """Farthest-first traversal: `begin`, then always the unit farthest from those picked, int64 `[count]`."""
    picked = begin.tolist()
    state = Farthest(found.x)
    for centre in picked:
        state.add(centre)
    while len(picked) < count:
        picked.append(state.farthest())
        state.add(picked[-1])
    return np.array(picked, dtype=np.int64)


def radius(score: GroupScore, kept: Positions) -> float:
    """Covering radius: the largest distance of a unit to the nearest kept one.

    Args:
        score: with `embedding [n, d]` among its signals.
        kept: positions, at least one.
    """
    from prunus.select.coverage import nearest

    x = np.asarray(score.signals.embedding)
    return float(nearest(x, x[kept]).max())
