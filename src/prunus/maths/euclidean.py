"""Means, nearest centroids and k-means by Euclidean distance, in float64 whatever block a row falls into.

faiss makes the first clusters in float32; the Lloyd step that follows makes them a function of who belongs to whom.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, require

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
BLOCK = 4096
BYTES = 128 << 20
"""Most bytes of one block of distances."""


def means(x: NDArray[np.floating], assigned: Positions, clusters: int) -> Floats:
    """Mean of the rows of every cluster, float64 `[k, d]`; NaN where it has none.

    Args:
        x: `[n, d]`.
        assigned: `[n]` in 0..k-1.
        clusters: k.
    """
    sums = np.zeros((clusters, x.shape[1]))
    for rows in _blocks(x.shape[0]):
        order = np.argsort(assigned[rows], kind="stable")
        present, starts = np.unique(assigned[rows][order], return_index=True)
        sums[present] += np.add.reduceat(x[rows].astype(np.float64)[order], starts, axis=0)
    sizes = np.bincount(assigned, minlength=clusters)[:, None]
    with np.errstate(invalid="ignore"):
        return sums / sizes


def distances(x: NDArray[np.floating], centroids: Floats) -> Iterator[Floats]:
    """Squared distances of at most 4,096 rows after the other to every centroid, float64 `[b, k]`; NaN ones are infinitely far."""
    empty = np.flatnonzero(np.isnan(centroids).any(1))
    centres = centroids.copy()
    centres[empty] = 0.0
    origin = centres.mean(0)  # distances do not move with the origin; rounding is least near the data
    centres = centres - origin
    norms = np.einsum("kd,kd->k", centres, centres)
    norms[empty] = np.inf
    for rows in _blocks(x.shape[0], min(BLOCK, max(1, BYTES // (8 * len(centroids))))):
        block = x[rows].astype(np.float64) - origin
        yield np.maximum(norms - 2 * block @ centres.T + np.einsum("bd,bd->b", block, block)[:, None], 0.0)


def nearest(x: NDArray[np.floating], centroids: Floats) -> Positions:
    """The nearest centroid of every row, int64 `[n]`; ties to the lower number."""
    return np.concatenate([block.argmin(1) for block in distances(x, centroids)] or [np.zeros(0, dtype=np.int64)])


def kmeans(x: NDArray[np.floating], clusters: int, *, iterations: int = 20, seed: int = 0) -> Positions:
    """The cluster of every row, int64 `[n]` in 0..k-1. Give rows in the order of their ids: faiss draws by position.

    Args:
        x: `[n, d]`, finite.
        clusters: how many; at most n are made.
        iterations: of faiss, before the last step in float64.
        seed: of faiss.

    Raises:
        MissingExtra: faiss is not installed.
    """
    if clusters < 1 or iterations < 1:
        raise BadInput(f"clusters and iterations must be at least 1, not {clusters} and {iterations}")
    faiss = require("faiss", "data")
    number, origin = min(clusters, x.shape[0]), x.mean(0, dtype=np.float64)
    rows = np.empty(x.shape, dtype=np.float32)
    for block in _blocks(x.shape[0]):
        rows[block] = x[block] - origin
    # All rows train (faiss would take 256 of each cluster), and few rows are no cause for a message.
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": x.shape[0]}
    trained = faiss.Kmeans(x.shape[1], number, niter=iterations, seed=seed, **limits)
    trained.train(rows)
    first = nearest(x, trained.centroids.astype(np.float64) + origin)
    return nearest(x, means(x, first, number))


def _blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
