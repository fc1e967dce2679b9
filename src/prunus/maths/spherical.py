"""Directions of vectors and their clusters: spherical k-means by faiss, then settled and measured in float64.

faiss trains in float32. The Lloyd step that follows makes centroids a function of who belongs to whom, so the last bits
of float32 sums (threads, instruction sets) leave no trace unless they decide an assignment. Cosines of a row with its
own centroid are sums over that row alone, rounded at 12 digits: equal rows get equal distances wherever they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, NonFinite, require
from prunus.maths.certified import ROUNDING

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
BLOCK = 1024
DIGITS = 12
TINY = 1e-280
"""Squared lengths outside TINY .. 1 / TINY are not to be trusted."""
FIXED_POINT = 1000
"""Lloyd steps after which a fixed point is given up: float ties could alternate for ever."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of directions.

    Attributes:
        centroids: float64 `[k, d]` of length 1.
        assigned: int64 `[n]`, the cluster of each row.
        distance: float64 `[n]`, 1 - cosine with the centroid of its cluster, in [0, 2].
    """

    centroids: Floats
    assigned: Positions
    distance: Floats

    @classmethod
    def around(cls, x: NDArray[np.floating], centroids: NDArray[np.floating], assigned: Any = None) -> Clusters:
        """Rows in the clusters they are said to be in; in that of the nearest centroid where nothing is said.

        Args:
            x: `[n, d]`, no zero rows (`check_directions`).
            centroids: `[k, d]`, of any length above 0.
            assigned: int `[n]` in 0..k-1, or None.
        """
        check_directions(centroids, np.arange(len(centroids)), "centroids")
        if centroids.shape[1] != x.shape[1]:
            raise BadInput(f"centroids have {centroids.shape[1]} dimensions, the rows {x.shape[1]}")
        centres = unit(centroids)
        of = nearest(x, centres) if assigned is None else _checked(assigned, x.shape[0], centres.shape[0])
        return cls(centres, of, distance(x, centres, of))

    def take(self, positions: Positions) -> Clusters:
        """The same clusters over some of the rows, in this order."""
        return Clusters(self.centroids, self.assigned[positions], self.distance[positions])

    @property
    def sizes(self) -> Positions:
        """Rows in each cluster, int64 `[k]`."""
        return np.bincount(self.assigned, minlength=self.centroids.shape[0]).astype(np.int64)


def check_directions(x: NDArray[np.floating], ids: NDArray[Any], what: str = "embedding") -> None:
    """Refuse rows that have no direction, by id.

    Raises:
        BadInput: not `[n, d]`, or a row is zero.
        NonFinite: a row holds NaN or infinity.
    """
    if x.ndim != 2 or x.shape[0] != ids.shape[0] or not x.shape[1]:
        raise BadInput(f"{what} must be [n, d] with a row for each of {ids.shape[0]} ids, not {list(x.shape)}")
    wrong, zero = np.zeros(x.shape[0], dtype=bool), np.zeros(x.shape[0], dtype=bool)
    for rows in _blocks(x.shape[0]):
        wrong[rows] = ~np.isfinite(x[rows]).all(1)
        zero[rows] = ~x[rows].any(1)
    if wrong.any():
        raise NonFinite(f"{what} is not finite in {int(wrong.sum())} rows, such as ids {ids[wrong][:5].tolist()}")
    if zero.any():
        raise BadInput(
            f"{what} is zero in {int(zero.sum())} rows, such as ids {ids[zero][:5].tolist()}: a zero vector has no "
            "direction; drop these rows or embed them again"
        )


def unit(x: NDArray[np.floating]) -> Floats:
    """Rows divided by their lengths, float64 `[n, d]`; any scale that floats can hold."""
    wide = x.astype(np.float64)
    squares = np.einsum("nd,nd->n", wide, wide)
    if squares.size and not TINY < squares.min() <= squares.max() < 1 / TINY:  # they vanish, or are infinite
        wide /= np.abs(wide).max(1, keepdims=True)
        squares = np.einsum("nd,nd->n", wide, wide)
    wide /= np.sqrt(squares)[:, None]
    return wide


def distance(x: NDArray[np.floating], centroids: Floats, assigned: Positions) -> Floats:
    """1 - cosine of each row with its own centroid, float64 `[n]` in [0, 2]."""
    found = np.empty(x.shape[0])
    for rows in _blocks(x.shape[0]):
        found[rows] = 1 - np.einsum("nd,nd->n", unit(x[rows]), centroids[assigned[rows]])
    return np.clip(np.round(found, DIGITS), 0, 2)


def nearest(x: NDArray[np.floating], centroids: Floats, single: NDArray[np.float32] | None = None) -> Positions:
    """The centroid of largest cosine, int64 `[n]`; ties to the lower number.

    Args:
        x: `[n, d]`.
        centroids: `[k, d]` of length 1.
        single: the directions of the rows in float32, where they are at hand.
    """
    return _assign(x, centroids, single)[0]


def _assign(
    x: NDArray[np.floating], centroids: Floats, single: NDArray[np.float32] | None
) -> tuple[Positions, NDArray[np.float32]]:
    """The nearest centroid of each row, and by how much its cosine exceeds that of the next, at least.

    Products are in float32; where two centroids come so close that its error could decide, float64 does.
    """
    n, d = x.shape
    found, margin = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.float32)
    narrow, doubt = np.ascontiguousarray(centroids.astype(np.float32).T), 2.02 * (d + 10) * ROUNDING
    for rows in _blocks(n):
        about = (unit(x[rows]).astype(np.float32) if single is None else single[rows]) @ narrow
        at = np.arange(about.shape[0])
        best = about.argmax(1)
        top = about[at, best]
        about[at, best] = -np.inf
        margin[rows] = top - about.max(1) - doubt
        close = np.flatnonzero(margin[rows] <= 0)
        if close.size:
            best[close] = np.argmax(unit(x[rows][close]) @ centroids.T, axis=1)
        found[rows] = best
    return found, margin


def mean_directions(
    x: NDArray[np.floating], assigned: Positions, old: Floats, single: NDArray[np.float32] | None = None
) -> Floats:
    """Directions of the mean unit vectors, float64 `[k, d]`; a cluster without rows or direction keeps its `old` one.

    Args:
        x: `[n, d]`.
        assigned: int64 `[n]`, the cluster of each row.
        old: `[k, d]`.
        single: the directions of the rows in float32, where they are at hand; they are added up in float64.
    """
    sums = np.zeros_like(old)
    for rows in _blocks(x.shape[0]):
        order = np.argsort(assigned[rows], kind="stable")
        present, starts = np.unique(assigned[rows][order], return_index=True)
        directions = unit(x[rows]) if single is None else single[rows].astype(np.float64)
        sums[present] += np.add.reduceat(directions[order], starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    known = lengths[:, 0] > 10.0**-DIGITS
    return np.where(known[:, None], sums / np.where(lengths > 0, lengths, 1.0), old)


def settle(
    x: NDArray[np.floating],
    centroids: NDArray[np.floating],
    *,
    steps: int = FIXED_POINT,
    single: NDArray[np.float32] | None = None,
) -> Clusters:
    """Lloyd steps from given centroids, at most `steps`, or until no row changes its cluster.

    Args:
        x: `[n, d]`.
        centroids: `[k, d]`, where to start.
        steps: most updates of the centroids.
        single: the directions of the rows in float32, where they are at hand.
    """
    centres = unit(centroids)
    assigned, margin = _assign(x, centres, single)
    for _ in range(steps):
        old, centres = centres, mean_directions(x, assigned, centres, single)
        way = np.sqrt(((centres - old) ** 2).sum(1))
        margin -= way[assigned] + way.max()  # no other centroid can have caught up further than that
        doubtful = np.flatnonzero(margin <= 0)
        before = assigned[doubtful]
        assigned[doubtful], margin[doubtful] = _assign(
            x[doubtful], centres, None if single is None else single[doubtful]
        )
        if np.array_equal(before, assigned[doubtful]):
            break
    return Clusters(centres, assigned, distance(x, centres, assigned))


def kmeans(x: NDArray[np.floating], clusters: int, *, iterations: int = 20, seed: int = 0) -> Clusters:
    """Spherical k-means of all rows. Give rows in the order of their ids: faiss draws its start by position.

    Args:
        x: `[n, d]`, no zero rows.
        clusters: how many; at most n are made.
        iterations: most of faiss, before the last step in float64.
        seed: of faiss.

    Raises:
        MissingExtra: faiss is not installed.
    """
    if clusters < 1 or iterations < 1:
        raise BadInput(f"clusters and iterations must be at least 1, not {clusters} and {iterations}")
    faiss = require("faiss", "data")
    rows = np.empty(x.shape, dtype=np.float32)
    for block in _blocks(x.shape[0]):
        rows[block] = unit(x[block])
    number = min(clusters, x.shape[0])
    # All rows train (faiss would take 256 of each cluster), and few rows are no cause for a message.
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": x.shape[0]}
    trained = faiss.Kmeans(x.shape[1], number, niter=iterations, seed=seed, spherical=True, **limits)
    trained.train(rows)
    return settle(x, trained.centroids, steps=1, single=rows)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def _checked(assigned: Any, rows: int, clusters: int) -> Positions:
    array = np.asarray(assigned)
    if (
        array.shape != (rows,)
        or array.dtype.kind not in "iu"
        or (rows and not 0 <= array.min() <= array.max() < clusters)
    ):
        raise BadInput(f"assigned must hold for each of {rows} rows a cluster 0..{clusters - 1}")
    return array.astype(np.int64)
