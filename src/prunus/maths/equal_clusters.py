"""Clusters of equal size: `n // k` or one more rows in each, whatever the data are like.

`halves` splits along the direction of largest spread until there are k parts (a tree of clusters). `kmeans` starts there
and repeats Lloyd's steps with the assignment that is cheapest among all of equal sizes: an exact transport problem,
solved by moving rows along cheapest paths between clusters. No draw, no n x n matrix, and equal rows stay in the order
they were given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
DIGITS = 9
"""What is nearer than this share of the largest is equal: the last bits of sums must not decide where a row goes."""
POWER_STEPS = 50
NOTHING = 1e-12
"""A path that is cheaper by less than this share of the largest cost is not: sums of floats could go round for ever."""


def halves(x: NDArray[np.floating], clusters: int) -> Positions:
    """The cluster of each row, int64 `[n]`, by cutting parts along their direction of largest spread.

    Args:
        x: `[n, d]`, finite.
        clusters: k, 1 to n.
    """
    if not 1 <= clusters <= x.shape[0]:
        raise BadInput(f"{x.shape[0]} rows can't make {clusters} clusters of equal size: ask for 1 to {x.shape[0]}")
    assigned = np.zeros(x.shape[0], dtype=np.int64)
    parts = [(np.arange(x.shape[0]), 0, clusters)]  # rows, first cluster number, how many clusters
    while parts:
        rows, first, number = parts.pop()
        if number == 1:
            assigned[rows] = first
            continue
        left = number // 2
        low, extra = divmod(rows.size, number)  # the first `extra` clusters hold one row more
        size = left * low + min(left, extra)
        order = rows[np.argsort(_along_spread(x[rows].astype(np.float64)), kind="stable")]
        parts += [(np.sort(order[:size]), first, left), (np.sort(order[size:]), first + left, number - left)]
    return assigned


def kmeans(x: NDArray[np.floating], clusters: int, *, iterations: int = 20) -> Positions:
    """The cluster of each row, int64 `[n]`: Lloyd's steps of equal sizes from `halves`, to a fixed point or so many."""
    assigned = halves(x, clusters)
    rows = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    for _ in range(iterations):
        centres = np.stack([rows[assigned == cluster].mean(0) for cluster in range(clusters)])
        costs = np.einsum("kd,kd->k", centres, centres) - 2 * rows @ centres.T
        found = equal(np.round(costs / (np.abs(costs).max() or 1.0), DIGITS))
        if np.array_equal(found, assigned):
            break
        assigned = found
    return assigned


def equal(costs: Floats) -> Positions:
    """The cheapest assignment in which every cluster has `n // k` rows or one more, int64 `[n]`.

    Args:
        costs: `[n, k]`, finite: of each row in each cluster.
    """
    return _Transport(costs).solved()


class _Transport:
    """Rows in clusters, and the price of moving one from each cluster to each other."""

    def __init__(self, costs: Floats) -> None:
        self.costs = costs - costs.min(1, keepdims=True)
        self.low = costs.shape[0] // costs.shape[1]
        self.high = -(-costs.shape[0] // costs.shape[1])
        self.assigned = self.costs.argmin(1)
        self.sizes = np.bincount(self.assigned, minlength=costs.shape[1])
        self.price = np.full((costs.shape[1], costs.shape[1]), np.inf)
        self.mover = np.zeros(self.price.shape, dtype=np.int64)
        self.nothing = NOTHING * float(self.costs.max(initial=0.0))
        for cluster in range(costs.shape[1]):
            self._reprice(cluster)

    def solved(self) -> Positions:
        """First no cluster has too many rows, then none too few; each move is the cheapest, so the whole is."""
        while (self.sizes > self.high).any():
            self._move(self.sizes > self.high, self.sizes < self.high)
        while (self.sizes < self.low).any():
            self._move(self.sizes > self.low, self.sizes < self.low)
        return self.assigned

    def _reprice(self, cluster: int) -> None:
        rows = np.flatnonzero(self.assigned == cluster)
        self.price[cluster] = np.inf
        if rows.size:
            more = self.costs[rows] - self.costs[rows, cluster][:, None]
            first = more.argmin(0)
            self.price[cluster], self.mover[cluster] = more[first, np.arange(first.size)], rows[first]
            self.price[cluster, cluster] = np.inf

    def _move(self, sources: NDArray[np.bool_], sinks: NDArray[np.bool_]) -> None:
        """One row less in a source, one more in a sink: the cheapest path, one row moving along each of its steps."""
        reached, before = np.where(sources, 0.0, np.inf), np.full(sources.size, -1)
        for _ in range(sources.size):
            through = reached[:, None] + self.price
            cheaper = through.min(0) < reached - self.nothing
            if not cheaper.any():
                break
            before[cheaper] = through.argmin(0)[cheaper]
            reached = np.where(cheaper, through.min(0), reached)
        at = int(np.where(sinks, reached, np.inf).argmin())
        path = [at]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        moves = [(self.mover[a, b], b) for b, a in zip(path, path[1:])]
        for row, cluster in moves:
            self.assigned[row] = cluster
        self.sizes[path[-1]] -= 1
        self.sizes[at] += 1
        for cluster in path:
            self._reprice(cluster)


def _along_spread(x: Floats) -> Floats:
    """Projections on the direction of largest spread, by power iteration from the row farthest from the mean; `[n]`."""
    rows = x - x.mean(0)
    direction = rows[(rows * rows).sum(1).argmax()]
    for _ in range(POWER_STEPS):
        length = np.sqrt((direction * direction).sum())
        if length == 0:
            return np.zeros(x.shape[0])
        direction = rows.T @ (rows @ (direction / length))
    direction = direction / (np.sqrt((direction * direction).sum()) or 1.0)
    direction = direction * (np.sign(direction[np.abs(direction).argmax()]) or 1.0)
    found = rows @ direction
    largest = float(np.abs(found).max(initial=0.0)) or 1.0
    return np.round(found / largest, DIGITS)
