"""Moderate: keep the rows at a middling distance from the median of their class (Xia et al. 2023).

Removes: rows nearest the centre of their class and rows farthest from it, as many at either end.
Needs: embedding, labels. The score itself is only checked.
Cost: O(n d + n log n). Memory 4 n d + 24 n_c d bytes, n_c rows in the largest class.
Departures: the published window of ranks over all rows; an odd row out goes to the end that Python's round decides, as
  released. Ranks inside every label are `within="class"`. The released function returns the rows to remove. Of equal
  distances the lower id ranks first, where the released sort is not stable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.certified import squared_norms
from prunus.select.by_label import labels_of
from prunus.select.vectors import choose, field_of, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@selector(
    needs=("embedding", "labels"), card="coreset-baselines", within="all", memory="28 * n * d + 40 * n + 65536 * d"
)
def moderate(score: GroupScore, count: int, *, within: Literal["all", "class"] = "all") -> Positions:
    """Positions of the rows in the middle of the ranking by distance to the class median, nearest first.

    Args:
        score: with `embedding [n, d]` and `labels [n]` among its signals.
        count: rows kept.
        within: all = one ranking; class = one for every label, counts in proportion.

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding or labels, an impossible count.
        NonFinite: an embedding or a score is NaN or infinite.
    """

    def one(piece: GroupScore, few: int) -> Positions:
        order = np.lexsort((piece.ids, distances(piece)))
        low = round((order.size - few) / 2)
        return order[low : low + few]

    return choose(score, count, within, (), one)


def distances(score: GroupScore) -> NDArray[np.float64]:
    """Euclidean distance of each row to the coordinate-wise median of its label, float64 `[n]` in the score's order.

    Args:
        score: with `embedding [n, d]` and `labels [n]` among its signals.
    """
    field_of(score, "labels")
    found, labels = vectors(score), labels_of(score)
    sorted_labels, away = labels[found.order], np.empty(labels.size)
    for label in np.unique(labels):
        mine = np.flatnonzero(sorted_labels == label)
        rows = found.x[mine].astype(np.float64)
        away[found.order[mine]] = np.sqrt(squared_norms(rows - np.median(rows, axis=0)))
    return away
