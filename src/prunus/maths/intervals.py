"""k-means of numbers: clusters of one dimension are intervals, so sorting and dynamic programming find the best ones.

Exact up to `BINS` distinct values. Above, the values are first put into so many quantile bins, the best intervals of
these are found, and Lloyd's steps over all values move the borders to a fixed point. No draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
BINS = 1024
MOST_STEPS = 1000
"""Lloyd steps after which a fixed point is given up: float ties could alternate for ever."""


def intervals(values: NDArray[np.floating], clusters: int) -> Floats:
    """The smallest value of each cluster, ascending, float64 `[k]`: a value belongs to the last that is not above it.

    Args:
        values: `[n]`, finite, at least one.
        clusters: most clusters; no more are made than there are distinct values.
    """
    if clusters < 1 or not values.size:
        raise BadInput(f"k-means of {values.size} numbers in {clusters} clusters: both must be at least 1")
    ordered = np.sort(values)
    edges = _edges(ordered)
    number = min(clusters, edges.size - 1)
    sums = _Sums(ordered)
    starts = _best(sums, edges, number)
    return ordered[_lloyd(sums, starts)].astype(np.float64)


def assign(values: NDArray[np.floating], lowest: Floats) -> Positions:
    """The cluster of each value, int64 `[n]`, by the smallest values that `intervals` gave."""
    return np.searchsorted(lowest, values.astype(np.float64), side="right") - 1


class _Sums:
    """Prefix sums of sorted values, of which the mean was taken so that little is lost in squares."""

    def __init__(self, ordered: NDArray[np.floating]) -> None:
        wide = ordered.astype(np.float64)
        self.values = wide - wide.mean()
        self.first = np.concatenate([[0.0], np.cumsum(self.values)])
        self.second = np.concatenate([[0.0], np.cumsum(self.values**2)])


def _edges(ordered: NDArray[np.floating]) -> Positions:
    """Where bins begin, and n at the end: between distinct values only."""
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    if starts.size > BINS:
        wanted = np.linspace(0, ordered.size, BINS, endpoint=False).astype(np.int64)
        starts = np.unique(np.searchsorted(ordered, ordered[wanted], side="left"))
    return np.concatenate([starts, [ordered.size]])


def _best(sums: _Sums, edges: Positions, clusters: int) -> Positions:
    """First positions of the clusters with the least sum of squares, int64 `[k]`."""
    size = np.maximum(edges[None, :] - edges[:, None], 1)
    first = sums.first[edges][None, :] - sums.first[edges][:, None]
    cost = sums.second[edges][None, :] - sums.second[edges][:, None] - first * first / size
    cost[np.tril_indices(edges.size)] = np.inf  # an interval ends after it begins
    least, back = cost[0], []
    for _ in range(clusters - 1):
        through = least[:, None] + cost
        back.append(through.argmin(0))
        least = np.take_along_axis(through, back[-1][None], 0)[0]
    at, starts = edges.size - 1, [0]
    for origin in reversed(back):
        at = int(origin[at])
        starts.append(int(edges[at]))
    return np.sort(np.array(starts, dtype=np.int64))


def _lloyd(sums: _Sums, starts: Positions) -> Positions:
    n = sums.values.size
    for _ in range(MOST_STEPS):
        ends = np.append(starts[1:], n)
        means = (sums.first[ends] - sums.first[starts]) / (ends - starts)
        moved = np.append(0, np.searchsorted(sums.values, (means[1:] + means[:-1]) / 2, side="right"))
        if np.array_equal(moved, starts) or (np.diff(np.append(moved, n)) == 0).any():
            break
        starts = moved
    return starts
