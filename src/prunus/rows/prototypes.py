"""Prototypes: cosine distance to the nearest k-means centroid of self-supervised features (Sorscher et al. 2022).

Removes: rows. Large is hard: far from every prototype.
Needs: an embedding of each row, all at once; no labels (where there are some, their number is the default number of
  clusters). faiss.
Cost: one forward pass of an encoder; k-means O(n k d iterations), the distances O(n k d). Memory 8 n d bytes.
Departures: no code was released for this metric, only its values for one data set, with large = keep; here large is
  hard, and the selector says which end stays. The paper's k is the number of classes, and it finds the result
  insensitive to it within a factor of ten: without labels it is sqrt(n), at most 1000. Clusters that lose all rows
  are split off the largest one by faiss, and keep their centroid in the last step, which is in float64. Keeping the
  hard end of few rows is worse than random: `select/balanced` chooses the end and says so.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunus.core.registry import criterion
from prunus.maths import spherical
from prunus.select.vectors import in_order

if TYPE_CHECKING:
    from prunus.core.rng import Rng

MOST = 1000
COLLAPSED = 0.99


@criterion(
    unit="rows",
    needs=("embedding",),
    sense="hard",
    whole=True,
    card="ssp",
    extras=("data",),
    memory="8 * n * d + 60 * n + 65536 * d",
)
def prototypes(
    s: Any,
    *,
    clusters: int | None = None,
    iterations: int = 20,
    init: NDArray[np.floating] | None = None,
    rng: Rng | None = None,
) -> Tensor:
    """`1 - max_k cos(e, c_k)`, float64 `[n]` in [0, 2].

    Args:
        s: signals with `ids [n]` and `embedding [n, d]`; `labels [n]` only for the default of `clusters`.
        clusters: number of prototypes; None = number of labels, or sqrt(n) up to 1000 without labels.
        iterations: of k-means.
        init: `[k, d]`, where Lloyd's steps start, up to a fixed point; None = faiss makes the clusters.
        rng: seed of the clusters.

    Raises:
        BadInput: a row is zero; names its id.
    """
    ids, x = np.asarray(s.ids), np.asarray(s.embedding)
    spherical.check_directions(x, ids)
    order = np.argsort(ids, kind="stable")  # k-means draws by position, so positions must be those of the ids
    rows = in_order(x, order)
    if init is not None:
        found = spherical.settle(rows, np.asarray(init))
    else:
        number = default_clusters(s, len(ids)) if clusters is None else clusters
        found = spherical.kmeans(rows, number, iterations=iterations, seed=0 if rng is None else rng.integer())
    _warn_if_collapsed(found)
    distances = np.empty(len(ids))
    distances[order] = found.distance
    return torch.from_numpy(distances)


def default_clusters(s: Any, rows: int) -> int:
    """The number of labels where rows have one each, else about sqrt(n), at most 1000."""
    labels = getattr(s, "labels", None)
    if labels is not None and np.asarray(labels).ndim == 1:
        return int(np.unique(np.asarray(labels)).size)
    return min(MOST, max(1, round(rows**0.5)))


def _warn_if_collapsed(found: spherical.Clusters) -> None:
    """Features of a classifier trained on these labels lie in a few points: then nothing but confusion is measured."""
    similar = 1 - float(found.distance.mean()) if found.distance.size else 0.0
    if similar > COLLAPSED and found.distance.size > found.centroids.shape[0]:
        message = (
            f"rows lie within a mean cosine of {similar:.4f} of their prototypes: the features are collapsed, "
            "so use those of a self-supervised encoder"
        )
        warnings.warn(message, UserWarning, stacklevel=3)
