"""Log-determinant: keep units that span the most, the greedy MAP of a determinantal process (Chen et al. 2018).

Removes: units that a combination of kept ones is like.
Needs: embedding, no zero vectors; labels for `within="class"`. The score itself is only checked.
Cost: m d² multiplications for the picks and d² for each gain that is looked at again, at most n m d² and far less (lazy);
  in float64. Memory 20 n d + 8 d² bytes: no similarity and no factor of m columns is ever stored.
Departures: similarity `0.5 + 0.5 cos` of embeddings, where DeepCore takes last-layer gradients and n² of them; with it the
  kernel has rank d + 1, and gains need one matrix of that size instead of a Cholesky factor that grows with every
  pick. The objective is `ln det(lam I + K)`, lam = 0.1: without lam it is -infinity beyond d + 1 picks. DeepCore's gain has
  the wrong sign and keeps what is redundant. All first gains are equal; the lower id wins, here and among equals later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths import determinant
from prunus.select.vectors import Start, choose, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@selector(
    needs=("embedding",), card="coreset-baselines", within="all", memory="20 * n * d + 60 * n + 8 * d * d + 65536 * d"
)
def log_determinant(
    score: GroupScore,
    count: int,
    *,
    lam: float = 0.1,
    start: Start = (),
    within: Literal["all", "class"] = "all",
) -> Positions:
    """Positions of units unlike each other and their combinations, in the order of picking; a smaller count keeps a subset.

    Args:
        score: with `embedding [n, d]` among its signals.
        count: units kept.
        lam: what is added to the diagonal of the similarity, above 0; large lets alike units in.
        start: ids of units that are kept first; they count.
        within: all = one function; class = one for every label, counts in proportion (rows).

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding, a zero one, lam not above 0, an impossible count, an unknown id in start.
        NonFinite: an embedding or a score is NaN or infinite.
    """
    if not 0 < lam < np.inf:
        raise BadInput(f"lam must be above 0, not {lam}: without it the determinant is 0 beyond d + 1 units")

    def one(piece: GroupScore, few: int) -> Positions:
        found = vectors(piece)
        # (1, u) / sqrt(2): the inner product of two such rows is 0.5 + 0.5 cos.
        features = np.ones((found.ids.size, found.x.shape[1] + 1))
        features[:, 1:] = found.directions("the log-determinant")
        features *= 0.5**0.5
        picked = determinant.log_determinant(features, few, lam=lam, start=found.places(start, few))
        return found.order[np.array(picked, dtype=np.int64)]

    return choose(score, count, within, start, one)
