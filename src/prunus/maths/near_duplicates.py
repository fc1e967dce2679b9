"""Near duplicates inside clusters: for every row the most similar earlier one, in blocks; no matrix over a whole cluster.

Earlier means earlier in `order`, which goes cluster by cluster: the first row of near duplicates is the one that stays.
Cosines are float64, rounded at 9 digits so that the block they were computed in can't decide a tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.maths.certified import ROUNDING
from prunus.maths.spherical import Floats, Positions, unit

Rule = Literal["official", "greedy", "components"]
RULES = ("official", "greedy", "components")
RAM = 1 << 28
"""Bytes for one block of cosines."""
ROWS = 1024
DIGITS = 9
BAND = 256
"""Most rows of a block of cosines in float32: those after it are not multiplied."""
FEW = 8
"""Rows that may have the largest cosine, above which all are computed again."""
HALF_STEP = 0.5 * 10.0**-DIGITS
BISECTIONS = 30


@dataclass(frozen=True, eq=False)
class Earlier:
    """What is known of each row, from one pass.

    Attributes:
        similarity: float64 `[n]`, largest cosine with an earlier row of its cluster, at least 0 (0 where there is
            none). Under components: the largest s such that a chain of cosines of at least s leads to an earlier row.
        witness: int64 `[n]`, the earlier row that has it; -1 where similarity is 0.
    """

    similarity: Floats
    witness: Positions

    def removed(self, eps: float) -> NDArray[np.bool_]:
        """Rows that an earlier one stands for, bool `[n]`; nested in eps."""
        return self.similarity > 1 - eps

    def kept_by(self, eps: NDArray[np.floating]) -> Positions:
        """How many rows stay at each eps, int64: the whole curve from one pass."""
        return np.searchsorted(np.sort(self.similarity), 1 - np.asarray(eps, dtype=np.float64), side="right")

    def representatives(self, removed: NDArray[np.bool_]) -> Positions:
        """The kept row that each row leads to through its witnesses (itself where it stays), int64 `[n]`."""
        at = np.where(removed & (self.witness >= 0), self.witness, np.arange(self.witness.size))
        while not np.array_equal(at, further := at[at]):
            at = further
        return at


def cluster_order(assigned: Positions, first: Floats) -> Positions:
    """Rows cluster by cluster, small `first` first; ties in the order of the rows, int64 `[n]`."""
    return np.lexsort((first, assigned))


def earlier(x: NDArray[np.floating], assigned: Positions, order: Positions, *, chained: bool = False) -> Earlier:
    """The most similar earlier row of the same cluster, for all rows.

    Args:
        x: `[n, d]`, no zero rows.
        assigned: int64 `[n]`.
        order: int64 `[n]`, cluster by cluster.
        chained: follow chains of similar rows (connected components) instead of pairs.
    """
    similarity, witness = np.zeros(x.shape[0]), np.full(x.shape[0], -1, dtype=np.int64)
    for members in clusters(assigned, order):
        best, place = (_chains if chained else _pairs)(unit(x[members]))
        similarity[members] = best
        witness[members] = np.where(place >= 0, members[place], -1)
    return Earlier(similarity, witness)


def greedy(
    x: NDArray[np.floating], assigned: Positions, order: Positions, eps: float
) -> tuple[Earlier, NDArray[np.bool_]]:
    """Rows compared with KEPT earlier rows only, and which go at this eps.

    Every row that goes is within eps of its witness, which stays; no two rows of a cluster that stay are.
    """
    similarity, witness = np.zeros(x.shape[0]), np.full(x.shape[0], -1, dtype=np.int64)
    for members in clusters(assigned, order):
        best, place = _against_kept(unit(x[members]), 1 - eps)
        similarity[members] = best
        witness[members] = np.where(place >= 0, members[place], -1)
    found = Earlier(similarity, witness)
    return found, found.removed(eps)


def greedy_count(x: NDArray[np.floating], assigned: Positions, order: Positions, count: int) -> tuple[float, Earlier]:
    """An eps at which at least `count` rows stay under the greedy rule, the largest that 30 bisections find."""
    low, high = 0.0, 1.0
    best = greedy(x, assigned, order, low)[0]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found, gone = greedy(x, assigned, order, middle)
        kept = int(gone.size - gone.sum())
        low, high, best = (middle, high, found) if kept >= count else (low, middle, best)
        if kept == count:
            break
    return low, best


def clusters(assigned: Positions, order: Positions) -> Iterator[Positions]:
    """The rows of each cluster that has any, in order."""
    if order.size:
        yield from np.split(order, np.flatnonzero(np.diff(assigned[order])) + 1)


def block_rows(rows: int) -> int:
    """Rows of a block of cosines with `rows` others."""
    return max(1, min(ROWS, RAM // (8 * max(rows, 1))))


def _pairs(rows: Floats) -> tuple[Floats, Positions]:
    """Largest cosine of each row with one before it, and where; 0 and -1 where none is above 0.

    Products in float32 say which few rows can have the largest cosine; it is computed again in float64.
    """
    n, step = rows.shape[0], min(BAND, block_rows(rows.shape[0]))
    best, place = np.zeros(n), np.full(n, -1, dtype=np.int64)
    later = np.triu(np.ones((step, step), dtype=bool))
    single, doubt = rows.astype(np.float32), 2.02 * (rows.shape[1] + 10) * ROUNDING
    for start in range(0, n, step):
        stop = min(start + step, n)
        about = single[start:stop] @ single[:stop].T
        about[:, start:][later[: stop - start, : stop - start]] = -np.inf
        first = about.argmax(1)
        top = about[np.arange(first.size), first]
        near = about >= (np.maximum(top, 0) - doubt)[:, None]
        number = np.count_nonzero(near, axis=1)
        few, many = np.flatnonzero((number > 1) & (number <= FEW)), np.flatnonzero(number > FEW)
        one, other = np.nonzero(near[few])
        alone = np.flatnonzero(number == 1)
        one, other = np.append(few[one], alone), np.append(other, first[alone])
        cosines = np.round(np.einsum("pd,pd->p", rows[start + one], rows[other]), DIGITS)
        order = np.lexsort((-other, cosines, one))  # the last of each row is the largest, of equals the first
        last = order[np.flatnonzero(np.diff(one[order], append=-1))]
        best[start + one[last]], place[start + one[last]] = cosines[last], other[last]
        for low in range(0, many.size, step):
            some = start + many[low : low + step]
            exact = np.round(rows[some] @ rows[:stop].T, DIGITS)
            exact[np.arange(stop) >= some[:, None]] = -np.inf
            best[some], place[some] = _largest(exact)
    found = best > 0
    return np.where(found, best, 0.0), np.where(found, place, -1)


def _largest(cosines: Floats) -> tuple[Floats, Positions]:
    if not cosines.shape[1]:
        return np.zeros(cosines.shape[0]), np.full(cosines.shape[0], -1, dtype=np.int64)
    place = cosines.argmax(1)
    best = np.take_along_axis(cosines, place[:, None], 1)[:, 0]
    return np.maximum(best, 0.0), np.where(best > 0, place, -1)


def _against_kept(rows: Floats, limit: float) -> tuple[Floats, Positions]:
    """As `_pairs`, but only kept rows count: those whose cosine with kept rows before them is at most `limit`."""
    n, step = rows.shape[0], block_rows(rows.shape[0])
    best, place = np.zeros(n), np.full(n, -1, dtype=np.int64)
    kept = np.zeros(0, dtype=np.int64)
    for start in range(0, n, step):
        stop = min(start + step, n)
        block = rows[start:stop]
        most, where = _largest(np.round(block @ rows[kept].T, DIGITS))
        where = np.where(where >= 0, kept[where] if kept.size else -1, -1)
        among = np.round(block @ block.T, DIGITS)
        for row in range(stop - start):
            if most[row] <= limit:  # it stays, and those after it are compared with it
                nearer = among[row] > most
                nearer[: row + 1] = False
                most[nearer], where[nearer] = among[row][nearer], start + row
        best[start:stop], place[start:stop] = most, where
        kept = np.concatenate([kept, start + np.flatnonzero(most <= limit)])
    return best, place


def _chains(rows: Floats) -> tuple[Floats, Positions]:
    """For each row the largest s at which its component holds an earlier row, and that component's first row."""
    edges = sorted(_spanning_tree(rows), key=lambda edge: (-edge[0], edge[1:]))
    first = np.arange(rows.shape[0])
    best, place = np.zeros(rows.shape[0]), np.full(rows.shape[0], -1, dtype=np.int64)
    for cosine, one, other in edges:
        low, high = sorted((_root(first, one), _root(first, other)))
        first[high] = low  # the later of two first rows is no longer first
        if cosine > 0:
            best[high], place[high] = cosine, low
    return best, place


def _root(first: Positions, row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = int(first[row])
    return row


def _spanning_tree(rows: Floats) -> Iterator[tuple[float, int, int]]:
    """Edges (cosine, row, row) of the maximum spanning tree, by Prim: one product with all rows at a time."""
    n = rows.shape[0]
    best, link = np.full(n, -np.inf), np.zeros(n, dtype=np.int64)
    outside, row = np.ones(n, dtype=bool), 0
    for _ in range(n - 1):
        outside[row] = False
        best[row] = -np.inf
        cosines = np.round(rows @ rows[row], DIGITS)
        nearer = outside & (cosines > best)
        best[nearer], link[nearer] = cosines[nearer], row
        row = int(np.argmax(best))
        yield float(best[row]), row, int(link[row])


def check_rule(rule: str, eps: float | None) -> None:
    """Refuse a rule that is none, and an eps that is no distance below 1."""
    if eps is not None and not 0 <= eps <= 1:
        raise BadInput(f"eps is 1 - cosine, in [0, 1], not {eps}")
    if rule not in RULES:
        raise BadInput(f"rule is one of {', '.join(RULES)}, not {rule!r}")
