"""The search of SnP: clusters of identities, their distances to a target, and the union of clusters nearest to it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.score import GroupScore, check_finite
from prunus.maths import equal_clusters
from prunus.maths.frechet import Frechet, Moments
from prunus.select.vectors import field_of, vectors
from prunus.signals.target import Target, values

if TYPE_CHECKING:
    from prunus.select.by_label import Positions

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Search:
    """What the search found in a pool of n rows, g identities and k clusters.

    Attributes:
        identities: `[g]`, their names, ascending.
        of: int64 `[n]`, the identity of each row of the score, as a position in `identities`.
        clusters: int64 `[g]`, the cluster of each identity.
        distance: float64 `[k]`, Frechet distance of each cluster to the target.
        diversity: float64 `[k]`, mean of 1 - correlation over pairs of rows of the cluster; NaN with one row.
        rank: int64 `[k]`, clusters, nearest first.
        prefix: float64 `[k]`, distance of the first 1, 2, ... k clusters of the ranking together.
        rows: int64 `[k]`, rows that they hold.
    """

    identities: NDArray[Any]
    of: Positions
    clusters: Positions
    distance: Floats
    diversity: Floats
    rank: Positions
    prefix: Floats
    rows: Positions

    def best(self, count: int = 1) -> int:
        """How many clusters of the ranking are nearest to the target together, among those that hold `count` rows."""
        return int(np.where(self.rows >= count, self.prefix, np.inf).argmin()) + 1

    def found(self, count: int = 1) -> Positions:
        """Positions of the identities in these clusters, ascending, int64."""
        return np.flatnonzero(np.isin(self.clusters, self.rank[: self.best(count)]))

    def nearness(self) -> Floats:
        """What ranks identities under prefer="nearest": softmax of minus the distance over their number; float64 `[g]`."""
        share = np.exp(self.distance.min() - self.distance)
        return (share / share.sum() / np.bincount(self.clusters, minlength=share.size))[self.clusters]


def search(
    score: GroupScore,
    target: str | Target | None,
    *,
    by: str = "labels",
    clusters: int = 50,
    clustering: Literal["kmeans", "halves"] = "kmeans",
    components: int | None = None,
    given: Positions | None = None,
) -> Search:
    """Clusters of identities and their distances to the target, one by one and together.

    Args:
        score: its ids, and `embedding [n, d]` and the identities among its signals.
        target: features of the target; several sets are taken together.
        by: signal that names the identity of each row; "" makes every row one of its own.
        clusters: of identities; at most one for each.
        clustering: of equal sizes: kmeans, or halves along the direction of largest spread.
        components: compare that many principal components of the pool; None = all features.
        given: `[g]`, the cluster of each identity in ascending order of their names, made before.

    Raises:
        BadInput: no target, no identities, an impossible option.
        NonFinite: an embedding, the target or a score is NaN or infinite.
    """
    check_finite(score.name, score.values, score.ids)
    found = vectors(score)
    names, of = np.unique(_names(score, by)[found.order], return_inverse=True)
    x, aim = _compared(np.asarray(field_of(score, "embedding"))[found.order], target, components)
    grouped = _clusters(x, of, clusters, clustering, given)
    number = int(grouped.max()) + 1
    member = grouped[of]
    sizes = np.bincount(member, minlength=number)
    _warn_if_few(min(int(sizes.min()), len(aim)), x.shape[1])
    away = Frechet(Moments.of(aim))
    parts = [x[member == cluster] for cluster in range(number)]
    distance = np.array([away(Moments.of(part)) for part in parts])
    diversity = np.array([_diversity(part.astype(np.float64)) for part in parts])
    rank = np.argsort(distance, kind="stable")
    unions = accumulate((Moments.of(parts[cluster]) for cluster in rank), Moments.__add__)  # one at a time: d x d each
    prefix = np.array([away(union) for union in unions])
    back = np.empty_like(of)
    back[found.order] = of
    return Search(names, back, grouped, distance, diversity, rank, prefix, np.cumsum(sizes[rank]))


def _names(score: GroupScore, by: str) -> NDArray[Any]:
    """The identity of each row, whole numbers or text `[n]`."""
    if not by:
        return score.ids
    names = field_of(score, by)
    if names.ndim != 1 or names.dtype.kind not in "iuU":
        raise BadInput(f"{by} must name one identity for each row, not be {names.dtype} of shape {list(names.shape)}")
    return names


def _compared(
    x: NDArray[np.floating], target: str | Target | None, components: int | None
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The features of the pool and of the target that are compared."""
    aim = np.concatenate(values(target, ("embedding",), "snp"))
    if aim.shape[1] != x.shape[1]:
        raise BadInput(f"the pool has {x.shape[1]} features and the target {aim.shape[1]}: embed both with one encoder")
    if components is None:
        return x, aim
    if not 1 <= components <= x.shape[1]:
        raise BadInput(f"components must lie in 1..{x.shape[1]}, the number of features, not {components}")
    axes = np.linalg.eigh(Moments.of(x).scatter)[1][:, -components:]
    return x.astype(np.float64) @ axes, aim.astype(np.float64) @ axes


def _clusters(x: NDArray[np.floating], of: Positions, clusters: int, how: str, given: Positions | None) -> Positions:
    """The cluster of each identity, int64 `[g]`."""
    number = int(of.max()) + 1
    if given is not None:
        made = np.asarray(given)
        if (
            made.shape != (number,)
            or made.dtype.kind not in "iu"
            or np.unique(made).size != made.max() + 1
            or made.min()
        ):
            raise BadInput(f"given must hold a cluster from 0 for each of {number} identities, and no cluster be empty")
        return made.astype(np.int64)
    if clusters < 1 or how not in ("kmeans", "halves"):
        raise BadInput(f"clusters must be at least 1 and clustering kmeans or halves, not {clusters} and {how!r}")
    sums = np.zeros((number, x.shape[1]))
    np.add.at(sums, of, x)
    make = equal_clusters.kmeans if how == "kmeans" else equal_clusters.halves
    return make(sums / np.bincount(of)[:, None], min(clusters, number))


def _diversity(x: Floats) -> float:
    """Mean of 1 - Pearson's correlation over pairs of rows, from the length of the sum of the standardised rows."""
    if len(x) < 2:
        return float("nan")
    rows = x - x.mean(1, keepdims=True)
    norms = np.sqrt((rows * rows).sum(1, keepdims=True))
    rows = rows / np.where(norms > 0, norms, 1.0)
    same = float((rows * rows).sum())
    return 1 - (float((rows.sum(0) ** 2).sum()) - same) / (len(x) * (len(x) - 1))


def _warn_if_few(rows: int, features: int) -> None:
    if rows <= features:
        message = (
            f"distances between sets of as few as {rows} rows with {features} features are too large, those of small sets "
            "most: use fewer clusters, or components"
        )
        warnings.warn(message, UserWarning, stacklevel=3)
