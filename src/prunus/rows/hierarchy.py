"""Balanced draws from a hierarchy of clusters: every level shares its budget as equally as the sizes allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunus.allocate.apportion import project, whole
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.rng import Rng, shuffled
from prunus.maths import euclidean, spherical

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Clusters of rows, and clusters of these clusters.

    Attributes:
        leaf: int64 `[n]`, the cluster of each row.
        distance: float `[n]`, of each row to the centroid of its cluster.
        parents: for each level above, the cluster of each cluster below, int64 `[k_l]`.
    """

    leaf: Positions
    distance: NDArray[np.floating]
    parents: tuple[Positions, ...] = ()


def cluster(x: NDArray[np.floating], sizes: Sequence[int], *, fit: Positions, iterations: int, seed: int) -> Hierarchy:
    """Hierarchical k-means of directions. Centroids of a level are clustered alike, however many rows they stand for.

    Args:
        x: `[n, d]` in the order of the ids, finite, no zero rows.
        sizes: clusters of each level, from the finest up; more than there are points below become fewer.
        fit: positions of the rows that the finest centroids are made from; the others go to the nearest.
        iterations: of k-means.
        seed: of k-means.
    """
    made = spherical.kmeans(x[fit], sizes[0], iterations=iterations, seed=seed)
    all_rows = spherical.Clusters.around(x, made.centroids)
    points, parents = made.centroids, []
    for size in sizes[1:]:
        of = euclidean.kmeans(points, min(size, points.shape[0]), iterations=iterations, seed=seed)
        _, of = np.unique(of, return_inverse=True)
        parents.append(of)
        points = euclidean.means(points, of, int(of.max()) + 1)
    return Hierarchy(all_rows.assigned, all_rows.distance, tuple(parents))


def fill(sizes: Positions, total: int, order: Positions) -> Positions:
    """Counts as equal as sizes allow: `min(c, size)` with the largest c that fits, one more for the first in `order`.

    Args:
        sizes: int `[g]`.
        total: at most their sum.
        order: a permutation of the groups: who is first to get one of what is left.
    """
    if not 0 <= total <= sizes.sum():
        raise BadInput(f"can't keep {total} of {int(sizes.sum())}")
    caps, ones = sizes[order], np.ones(sizes.size)
    counts = np.empty(sizes.size, dtype=np.int64)
    counts[order] = whole(project(ones, np.zeros_like(caps), caps, ones, total), caps, total)
    return counts


def draw(tree: Hierarchy, ids: NDArray[np.generic], count: int, *, eta: float, rng: Rng) -> Positions:
    """Positions (sorted) of `count` rows, shared out from the top of the hierarchy down.

    Args:
        tree: of the rows.
        ids: `[n]`, in order.
        count: rows.
        eta: in a leaf, rows are drawn with weights exp(eta z), z the standardised distance to the centroid: 0 all alike,
            below 0 near rows first, -inf the nearest, inf the farthest.
        rng: who gets what is left, and the draws in the leaves.
    """
    if not 0 <= count <= ids.size:
        raise BudgetUnreachable(f"can't keep {count} of {ids.size} rows", nearest=f"{ids.size} rows")
    leaves = max(int(tree.leaf.max()) + 1, tree.parents[0].size if tree.parents else 0)
    sizes = [np.bincount(tree.leaf, minlength=leaves)]
    for parents in tree.parents:
        sizes.append(np.bincount(parents, sizes[-1], minlength=int(parents.max()) + 1).astype(np.int64))
    counts = _shared(sizes[-1], count, rng, len(tree.parents))
    for level in range(len(tree.parents) - 1, -1, -1):
        above, parents = counts, tree.parents[level]
        counts = np.zeros(parents.size, dtype=np.int64)
        for parent in np.flatnonzero(above):
            children = np.flatnonzero(parents == parent)
            counts[children] = _shared(sizes[level][children], int(above[parent]), rng, f"{level}/{parent}")
    return _from_leaves(tree, ids, counts, eta, rng)


def _shared(sizes: Positions, count: int, rng: Rng, where: object) -> Positions:
    order = shuffled(rng.seed, f"{rng.purpose}/left {where}", np.arange(sizes.size))
    return fill(sizes, count, order)


def _from_leaves(tree: Hierarchy, ids: NDArray[np.generic], counts: Positions, eta: float, rng: Rng) -> Positions:
    if np.isinf(eta):
        key = np.sign(eta) * tree.distance.astype(np.float64)
    else:
        key = eta * _standardised(tree) - np.log(-np.log(rng.child("leaf").uniform(ids).clip(1e-300)))  # Gumbel
    order = np.lexsort((ids, -key, tree.leaf))
    starts = np.searchsorted(tree.leaf[order], np.arange(counts.size))
    place = np.arange(ids.size) - starts[tree.leaf[order]]
    return np.sort(order[place < counts[tree.leaf[order]]])


def _standardised(tree: Hierarchy) -> Floats:
    """Distances less the mean of the leaf, over its standard deviation; 0 where all are equal."""
    size = np.maximum(np.bincount(tree.leaf), 1)
    wide = tree.distance.astype(np.float64)
    wide = wide - (np.bincount(tree.leaf, wide) / size)[tree.leaf]
    deviation = np.sqrt(np.bincount(tree.leaf, wide**2) / size)[tree.leaf]
    return np.divide(wide, deviation, out=np.zeros_like(wide), where=deviation > 1e-12)
