"""Feature mapping: drop the source classes or clusters whose mean feature is nearest to fewest target rows (Zhang et al. 2023).

Removes: rows, by whole classes or clusters of the source, before a model is pretrained on it for use on a target.
Needs: embedding of the source and of the target by the same encoder; labels of the source, or clusters are made (faiss).
  No labels of the target.
Cost: one forward pass over both; then O(n d + t k d) for t target rows and k classes, k-means O(n k d iterations) where
  clusters are made. Memory 8 k d bytes, and 8 * 4096 (k + d) for a block.
Departures: a criterion and no selector, as `rows/label_mapping`. The authors' file for ImageNet writes every distance
  into the place of the sample instead of the class, so its nearest class means nothing: what is followed is their other
  file (moderate selection, variant ffm). Distances are one product of matrices instead of three loops. Equal votes go
  to the class that is nearer to the target on average, then to the lower class (`ties="id"`: by class alone).
  `centroid="trimmed"` is the variant ffmm, `by="mean"` and `by="median"` the variants cmt. k-means of the source is by
  Euclidean distance with sqrt(n) clusters, at most 1000 (the paper: 1000).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.core.score import check_finite_rows
from prunus.maths import euclidean
from prunus.rows.source_classes import Floats, Positions, Ranking, class_numbers, rank
from prunus.signals.target import Target, values

if TYPE_CHECKING:
    from prunus.core.rng import Rng

MOST = 1000
By = Literal["votes", "mean", "median"]
Centroid = Literal["mean", "trimmed"]


@criterion(unit="rows", needs=("embedding",), sense="keep", whole=True, card="dp4tl")
def feature_mapping(
    s: Any,
    *,
    target: str | Target | None = None,
    clusters: int | None = None,
    iterations: int = 20,
    by: Literal["votes", "mean", "median"] = "votes",
    centroid: Literal["mean", "trimmed"] = "mean",
    middle: float = 0.2,
    combine: Literal["sum", "max"] = "sum",
    ties: Literal["nearness", "id"] = "nearness",
    reverse: bool = False,
    rng: Rng | None = None,
) -> Tensor:
    """The place of each row's class, float64 `[n]`: k for the class with most votes of the target, 1 for the last of k.

    Args:
        s: signals of the source with `ids [n]`, `embedding [n, d]` and, unless clusters are made, `labels [n]`.
        target: features of the target by the same encoder: a folder of signals or a table with embedding; signals, or
            an array `[t, d]`; or several of them in a list.
        clusters: make so many clusters of the source and rank these; None = its labels, or sqrt(n) without labels.
        iterations: of k-means.
        by: votes = target rows nearest to each mean; mean, median = distance of each mean to that of the target.
        centroid: mean of all rows of a class, or of the middle ones by distance to the median of the class.
        middle: share of a class that centroid="trimmed" takes.
        combine: several targets: sum or max of their shares of votes.
        ties: equal votes: nearness = by mean distance, then by class; id = by class.
        reverse: fewest votes first: the paper's control.
        rng: seed of the clusters.

    Raises:
        BadInput: no target or one of another width, labels that are no class numbers.
        NonFinite: an embedding or the target holds NaN.
    """
    order = np.argsort(np.asarray(s.ids), kind="stable")  # k-means draws and sums run in the order of the ids
    x = _finite(s)[order]
    found = _classes(s, x, order, clusters, iterations, rng)
    centres = centroids(x, found, centroid=centroid, middle=middle)
    every = values(target, ("embedding",), "feature_mapping")
    scores = np.empty(order.size)
    scores[order] = ranking(centres, every, by=by, combine=combine, ties=ties, reverse=reverse).values(found)
    return torch.from_numpy(scores)


def centroids(
    x: NDArray[np.floating], labels: Positions, *, centroid: Centroid = "mean", middle: float = 0.2
) -> Floats:
    """The mean feature of each class 0..k-1, float64 `[k, d]`; NaN for a class without rows.

    Args:
        x: `[n, d]`.
        labels: int64 `[n]`.
        centroid: mean, or trimmed: over the rows whose distance to the coordinate-wise median of the class ranks in the
            middle, from round(n (1 - middle) / 2) to round(n (1 + middle) / 2), ties by position.
        middle: share of the rows for trimmed.
    """
    if centroid not in ("mean", "trimmed") or not 0 < middle <= 1:
        raise BadInput(f"centroid is mean or trimmed and middle lies in (0, 1], not {centroid!r} and {middle}")
    number = int(labels.max()) + 1
    if centroid == "mean":
        return euclidean.means(x, labels, number)
    kept = [_middle(x, np.flatnonzero(labels == one), middle) for one in np.unique(labels)]
    at = np.concatenate(kept)
    return euclidean.means(x[at], labels[at], number)


def ranking(
    centres: Floats,
    target: Sequence[NDArray[np.floating]],
    *,
    by: By = "votes",
    combine: Literal["sum", "max"] = "sum",
    ties: Literal["nearness", "id"] = "nearness",
    reverse: bool = False,
) -> Ranking:
    """The classes of `centres [k, d]` by votes of the targets `[t, d]`. Other arguments as `feature_mapping`."""
    if by not in ("votes", "mean", "median"):
        raise BadInput(f"by is votes, mean or median, not {by!r}")
    if any(one.shape[1] != centres.shape[1] for one in target):
        raise BadInput(
            f"the source has {centres.shape[1]} features and the target {[one.shape[1] for one in target]}: embed both "
            "with the same encoder"
        )
    options: dict[str, Any] = {"combine": combine, "ties": ties, "reverse": reverse}
    votes, near = zip(*(_votes(one, centres) for one in target))
    if by == "votes":
        return rank(votes, near, **options)
    point = np.mean if by == "mean" else np.median
    middles = [point(one.astype(np.float64), axis=0)[None] for one in target]
    near = [-next(euclidean.distances(one, centres))[0] for one in middles]
    return rank(votes, near, first="nearness", **options)


def _votes(target: NDArray[np.floating], centres: Floats) -> tuple[Floats, Floats]:
    """(rows of the target nearest to each class, minus its mean squared distance to them), float64 `[k]` each."""
    votes, away = np.zeros(len(centres)), np.zeros(len(centres))
    for block in euclidean.distances(target, centres):
        votes += np.bincount(block.argmin(1), minlength=len(centres))
        away += block.sum(0)
    return votes, -away / len(target)


def _middle(x: NDArray[np.floating], mine: Positions, middle: float) -> Positions:
    """The rows of one class in the middle of their distances to its median; at least one."""
    rows = x[mine].astype(np.float64)
    away = np.sqrt(((rows - np.median(rows, axis=0)) ** 2).sum(1))
    low, high = round(mine.size * (0.5 - middle / 2)), round(mine.size * (0.5 + middle / 2))
    return mine[np.argsort(away, kind="stable")[min(low, mine.size - 1) : max(high, low + 1)]]


def _finite(s: Any) -> NDArray[np.floating]:
    x = np.asarray(s.embedding)
    if x.ndim != 2 or not x.size:
        raise BadInput(f"feature_mapping needs an embedding [n, d] of the source, not {list(x.shape)}")
    check_finite_rows("embedding", x, np.asarray(s.ids))
    return x


def _classes(
    s: Any, x: NDArray[np.floating], order: Positions, clusters: int | None, iterations: int, rng: Rng | None
) -> Positions:
    """The class of each row in the order of the ids: its label, or a cluster."""
    labels = getattr(s, "labels", None)
    if clusters is None and labels is not None and np.asarray(labels).ndim == 1:
        return class_numbers(labels, "feature_mapping")[order]
    number = min(MOST, max(1, round(order.size**0.5))) if clusters is None else clusters
    return euclidean.kmeans(x, number, iterations=iterations, seed=0 if rng is None else rng.integer())
