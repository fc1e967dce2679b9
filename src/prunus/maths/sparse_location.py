"""Facility location over the similarities of neighbours: all others count as 0, so memory is O(n k).

Greedy and lazy, with a heap: a gain only falls, so an old one bounds its unit from above. Gains are sums in float64 over the
links of one unit in one order; of equal gains the lowest index wins.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class SparseLocation:
    """`F(S) = sum_i max_{j in S} s_ij` with `s_ii = 1` and other similarities on the links of a graph only.

    Args:
        starts: int64 `[n + 1]`; the units linked with unit i are `others[starts[i] : starts[i + 1]]`.
        others: int64 `[links]`.
        similarity: float64 `[links]`, in [0, 1].
    """

    def __init__(self, starts: Indices, others: Indices, similarity: Floats) -> None:
        self.starts, self.others, self.similarity = starts, others, similarity
        n = starts.size - 1
        self.covered = np.zeros(n)
        self.left = np.ones(n, dtype=bool)
        self.order: list[int] = []
        self.heap = [(-self.gain(unit), unit) for unit in range(n)]
        heapq.heapify(self.heap)

    def gain(self, unit: int) -> float:
        """What one unit would add."""
        links = slice(self.starts[unit], self.starts[unit + 1])
        rise = self.similarity[links] - self.covered[self.others[links]]
        return float(np.maximum(rise, 0).sum()) + max(1.0 - float(self.covered[unit]), 0.0)

    def add(self, unit: int) -> None:
        """Take one unit, whether or not it is the best."""
        links = slice(self.starts[unit], self.starts[unit + 1])
        others = self.others[links]
        self.covered[others] = np.maximum(self.covered[others], self.similarity[links])
        self.covered[unit] = 1.0
        self.order.append(unit)
        self.left[unit] = False

    def best(self) -> int:
        """The unit that adds most; of equals the lowest index."""
        while True:
            old, unit = heapq.heappop(self.heap)
            if not self.left[unit]:
                continue
            now = -self.gain(unit)
            if now == old:
                return unit
            heapq.heappush(self.heap, (now, unit))


def sparse_location(
    starts: Indices, others: Indices, similarity: Floats, count: int, *, start: Indices | None = None
) -> SparseLocation:
    """Pick `count` units greedily, those of `start` first. Arguments as `SparseLocation`."""
    state = SparseLocation(starts, others, similarity)
    for unit in [] if start is None else start.tolist():
        state.add(unit)
    while len(state.order) < count:
        state.add(state.best())
    return state
