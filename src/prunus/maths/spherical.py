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

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
BLOCK = 4096
DIGITS = 12
LEG = 5
"""Iterations of faiss between two looks at whether anything still moves."""
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
    wide /= np.abs(wide).max(1, keepdims=True)  # squares of tiny numbers would vanish
    return wide / np.sqrt(np.einsum("nd,nd->n", wide, wide))[:, None]


def distance(x: NDArray[np.floating], centroids: Floats, assigned: Positions) -> Floats:
    """1 - cosine of each row with its own centroid, float64 `[n]` in [0, 2]."""
    found = np.empty(x.shape[0])
    for rows in _blocks(x.shape[0]):
        found[rows] = 1 - np.einsum("nd,nd->n", unit(x[rows]), centroids[assigned[rows]])
    return np.clip(np.round(found, DIGITS), 0, 2)


def nearest(x: NDArray[np.floating], centroids: Floats) -> Positions:
    """The centroid of largest cosine, int64 `[n]`; ties to the lower number."""
    found = np.empty(x.shape[0], dtype=np.int64)
    for rows in _blocks(x.shape[0]):
        found[rows] = np.argmax(unit(x[rows]) @ centroids.T, axis=1)
    return found


def mean_directions(x: NDArray[np.floating], assigned: Positions, old: Floats) -> Floats:
    """Directions of the mean unit vectors, float64 `[k, d]`; a cluster without rows or direction keeps its `old` one."""
    sums = np.zeros_like(old)
    for rows in _blocks(x.shape[0]):
        order = np.argsort(assigned[rows], kind="stable")
        present, starts = np.unique(assigned[rows][order], return_index=True)
        sums[present] += np.add.reduceat(unit(x[rows])[order], starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    known = lengths[:, 0] > 10.0**-DIGITS
    return np.where(known[:, None], sums / np.where(lengths > 0, lengths, 1.0), old)


def settle(x: NDArray[np.floating], centroids: NDArray[np.floating], *, steps: int = FIXED_POINT) -> Clusters:
    """Lloyd steps from given centroids, at most `steps`, or until no row changes its cluster.

    Args:
        x: `[n, d]`.
        centroids: `[k, d]`, where to start.
        steps: most updates of the centroids.
    """
    centres = unit(centroids)
    assigned = nearest(x, centres)
    for _ in range(steps):
        centres = mean_directions(x, assigned, centres)
        before, assigned = assigned, nearest(x, centres)
        if np.array_equal(before, assigned):
            break
    return Clusters(centres, assigned, distance(x, centres, assigned))


def kmeans(x: NDArray[np.floating], clusters: int, *, iterations: int = 20, seed: int = 0) -> Clusters:
    """Spherical k-means of all rows. Give rows in the order of their ids: faiss draws its start by position.

    Args:
        x: `[n, d]`, no zero rows.
        clusters: how many; at most n are made.
        iterations: of faiss, before the last step in float64; fewer where centroids stop moving.
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
    trained = faiss.Kmeans(x.shape[1], number, seed=seed, spherical=True, **limits)
    centres: Any = None
    for done in range(0, iterations, LEG):
        before, trained.cp.niter = centres, min(LEG, iterations - done)
        trained.train(rows, init_centroids=before)
        centres = trained.centroids.copy()
        if before is not None and np.array_equal(before, centres):
            break
    return settle(x, centres, steps=1)


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
