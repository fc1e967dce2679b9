"""D2: difficulty spread over a graph of neighbours, then discounted around each row that is taken (Maharana et al. 2024).

Removes: rows whose difficulty, and that of the rows around them, kept neighbours stand for.
Needs: a score; embedding; labels for `within="class"`. faiss.
Cost: 2 n² d multiplications in float32 for the neighbours (n_c² per class), then O((n + m k) log n) for m rows kept with k
  neighbours; memory 12 n d + 150 n k bytes.
Departures: distances are measured in units of the median squared distance between neighbours, so that gamma means the
  same for every embedding; the released code takes exp(-distance) of raw features, which is 0 for most. The kernel is
  exp(-gamma d²), as published; the released one does not square. A row whose score has fallen below 0 sends no
  message: as published it would raise its neighbours, which then come in clumps. Of an easy score, and where a
  value is negative, the smallest is taken as 0; the released code clips at 1e-7. The released experiments first drop the
  hardest rows as CCS does and choose inside classes: `hard_cut`, `cut_score` and `within`, off by default. The graph
  is undirected as published: two rows are linked when either is among the k nearest of the other.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore, Score
from prunus.maths.neighbours import Neighbours, nearest
from prunus.select.by_label import part
from prunus.select.ccs import cut_count, cut_scores, easier
from prunus.select.vectors import choose, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions

Floats = NDArray[np.float64]


@selector(
    needs=("embedding",),
    card="coreset-baselines",
    extras=("data",),
    within="all",
    memory="12 * n * d + 150 * n * neighbours + 67108864",
)
def d2(
    score: GroupScore,
    count: int,
    *,
    neighbours: int = 10,
    forward: float = 1.0,
    reverse: float = 0.1,
    hard_cut: float = 0.0,
    cut_score: str | Score | GroupScore | None = None,
    within: Literal["all", "class"] = "all",
) -> Positions:
    """Positions of difficult rows in different places, in the order of picking; a smaller count keeps a subset.

    Args:
        score: large stays if it is a keep or hard score, small if it is an easy one; with `embedding [n, d]`.
        count: rows kept.
        neighbours: nearest rows that a row is linked with.
        forward: gamma of the kernel by which difficulty spreads; large = only to close rows.
        reverse: gamma of the kernel by which a row that is taken discounts its neighbours; 0 = all alike, large = only
            close ones.
        hard_cut: share of all rows, the hardest, that is dropped first, as in CCS.
        cut_score: what the cut goes by: a criterion over the same signals (aum), or a score; None means `score`.
        within: all = one graph; class = one for every label, counts in proportion (rows).

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding, a negative gamma, no neighbours, an impossible count.
        BudgetUnreachable: the cut leaves fewer than `count` rows.
        NonFinite: an embedding or a score is NaN or infinite.
    """
    if neighbours < 1 or not 0 <= forward < np.inf or not 0 <= reverse < np.inf:
        raise BadInput(f"d2 takes 1 neighbour or more and gammas of 0 or more, not {neighbours}, {forward}, {reverse}")
    cut = cut_scores(score, cut_score) if hard_cut else None

    def one(piece: GroupScore, few: int) -> Positions:
        left = np.arange(piece.ids.size)
        if cut is not None:
            here = part(cut, np.flatnonzero(np.isin(cut.ids, piece.ids)))
            left = easier(here, cut_count(left.size, few, hard_cut))
            piece = part(piece, left)
        found = vectors(piece)
        graph = Graph(nearest(found.x, neighbours))
        return left[found.order[taken(graph, importance(piece)[found.order], forward, reverse, few)]]

    return choose(score, count, within, (), one)


def importance(score: GroupScore) -> Floats:
    """What each row is worth before messages, 0 or more, float64 `[n]`: large stays."""
    values = np.asarray(score.values, dtype=np.float64)
    values = -values if score.sense == "easy" else values
    zero = np.inf if score.sense == "easy" else 0.0  # large easy scores have no natural zero
    return values - values.min(initial=zero) if values.size else values


class Graph:
    """Rows linked with their neighbours, and how far apart they are in units of the median of all neighbours.

    Args:
        near: the neighbours of every row.
    """

    def __init__(self, near: Neighbours) -> None:
        positive = near.squares[near.squares > 0]
        links = near.links()
        self.starts, self.others = links.starts, links.others
        self.squares = links.squares / (float(np.median(positive)) if positive.size else 1.0)

    def weights(self, gamma: float) -> Floats:
        """exp(-gamma d²) of every link, float64."""
        return np.exp(-gamma * self.squares)


def taken(graph: Graph, worth: Floats, forward: float, reverse: float, count: int) -> Positions:
    """Rows in the order of picking, int64 `[count]`; of equal scores the lower index.

    Scores only fall, so an entry of the heap that is out of date bounds its row from above, and is put back when it
    comes up.
    """
    n = worth.size
    spread = csr_array((graph.weights(forward), graph.others, graph.starts), shape=(n, n))
    current = worth + spread @ worth
    discount = graph.weights(reverse)
    heap = [(-value, row) for row, value in enumerate(current.tolist())]
    heapq.heapify(heap)
    picked: list[int] = []
    while len(picked) < count:
        negative, row = heapq.heappop(heap)
        if -negative != current[row]:
            heapq.heappush(heap, (-float(current[row]), row))
            continue
        picked.append(row)
        if negative < 0:
            links = slice(graph.starts[row], graph.starts[row + 1])
            current[graph.others[links]] += negative * discount[links]
    return np.array(picked, dtype=np.int64)
