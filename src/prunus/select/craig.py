"""CRAIG: keep rows whose gradients stand for those of all, by facility location (Mirzasoleiman et al. 2020).

Removes: rows whose gradient a kept one is near to.
Needs: probs, labels, embedding (the gradient of the last layer is made of them); or `gradient [n, p]` among the signals
  and labels. The score itself is only checked.
Cost: n² (c + d) multiplications, of which per class n_c² (c + d). Memory 20 n (c + d) bytes, and 4 n_c² for similarities, or
  at most `max_ram` and more time.
Departures: similarity is `1 - |g_i - g_j| / D` with D twice the longest gradient, where the released code takes D, the
  largest distance, from a pass over all pairs: any D picks the same rows. Gradients are never formed as outer products.
  `weights` gives each kept row the number of rows it stands for, over the same rows for every path; DeepCore's count
  begins at 1 (parity="official"). The paper minimises F within an error; here, as everywhere since, the count is
  given. The weights matter: on the card's digits they add 5 points at 5 % kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths import submodular
from prunus.maths.last_layer import Alikeness, Nearness
from prunus.select.by_label import labels_of, part
from prunus.select.gradients import RowGradients, row_gradients
from prunus.select.vectors import MAX_RAM, Start, choose

if TYPE_CHECKING:
    from prunus.select.by_label import Positions

    Measure = Literal["distance", "cosine"]


@selector(
    needs=("probs", "labels", "embedding"),
    card="coreset-baselines",
    within="class",
    memory="20 * n * (c + d + 1) + 100 * n",
    weighs=True,
)
def craig(
    score: GroupScore,
    count: int,
    *,
    similarity: Literal["distance", "cosine"] = "distance",
    start: Start = (),
    max_ram: int = MAX_RAM,
    within: Literal["all", "class"] = "class",
) -> Positions:
    """Positions of rows whose gradients stand for all, in the order of picking (inside each label).

    Args:
        score: with `probs [n, c]`, `labels [n]`, `embedding [n, d]` (or `gradient [n, p]`) among its signals.
        count: rows kept.
        similarity: distance = as published; cosine = `0.5 + 0.5 cos` of gradients.
        start: ids of rows that are kept first; they count.
        max_ram: bytes for similarities; the selection does not depend on it.
        within: class = as published, counts in proportion; all = one function over all rows.

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: a signal is missing or of another shape, an impossible count, a zero gradient with cosine.
        NonFinite: a signal or a score is NaN or infinite.
    """

    def one(piece: GroupScore, few: int) -> Positions:
        found = row_gradients(piece)
        kernel, block = submodular.within_memory(_similarity(found, similarity), max_ram)
        state = submodular.facility_location(kernel, few, start=found.places(start, few), block=block)
        return found.order[np.array(state.order, dtype=np.int64)]

    return choose(score, count, within, start, one, row_gradients)


def weights(
    score: GroupScore,
    kept: Positions,
    *,
    similarity: Measure = "distance",
    max_ram: int = MAX_RAM,
    within: Literal["all", "class"] = "class",
    parity: Literal["paper", "official"] = "paper",
) -> NDArray[np.float64]:
    """How many rows each kept one stands for, float64 `[m]` aligned with `kept`: its weight in the loss.

    Args:
        score: as given to `craig`.
        kept: positions, by `craig` or any other selector.
        similarity, max_ram, within: as given to `craig`.
        parity: paper: they add up to all rows (of the labels that keep any); official: one more for each, as DeepCore.
    """
    every = np.arange(score.ids.size)
    labels = labels_of(score) if within == "class" else np.zeros(every.size)
    found = np.zeros(kept.size)
    for label in np.unique(labels[kept]):
        mine, rows = labels[kept] == label, np.flatnonzero(labels == label)
        piece = row_gradients(part(score, rows))
        kernel, block = submodular.within_memory(_similarity(piece, similarity), max_ram)
        place = np.empty(rows.size, dtype=np.int64)
        place[piece.order] = np.arange(rows.size)
        found[mine] = submodular.shares(kernel, place[np.searchsorted(rows, kept[mine])], block)
    return found + 1 if parity == "official" else found


def _similarity(found: RowGradients, measure: Measure) -> submodular.Similarity:
    if measure == "distance":
        return Nearness(found.gradients)
    zero = found.gradients.squares() == 0
    if zero.any():
        raise BadInput(
            f"{int(zero.sum())} gradients are zero and have no direction, such as ids {found.ids[zero][:5].tolist()}: "
            "use similarity='distance', or probabilities recorded earlier in training"
        )
    return Alikeness(found.gradients)
