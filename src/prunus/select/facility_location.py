"""Facility location: keep units such that every unit has a similar kept one (Wei et al. 2015; as in DeepCore 2022).

Removes: units that a kept one stands for.
Needs: embedding, no zero vectors; labels for `within="class"`. The score itself is only checked.
Cost: at least n d multiplications for the first unit and n² d for all others together, in float64; more where n² similarities
  do not fit in `max_ram` (4 n² bytes in half of it), because those looked at again are computed again. Memory 8 n d and
  at most max_ram. Per class it is n_c².
Departures: similarity `0.5 + 0.5 cos` of embeddings, where DeepCore takes last-layer gradients (cheaper here; the card's
  digits differ by 0.5 points). Zero vectors, which give NaN in DeepCore, are refused by id. Lazy greedy over blocks of
  columns: the same units as naive greedy. Gains that differ by less than 2.4e-7 are equal, and the lower id wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths import submodular
from prunus.select.vectors import MAX_RAM, Start, choose, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@selector(needs=("embedding",), card="coreset-baselines", within="all")
def facility_location(
    score: GroupScore,
    count: int,
    *,
    start: Start = (),
    max_ram: int = MAX_RAM,
    within: Literal["all", "class"] = "all",
) -> Positions:
    """Positions of units that stand for all others, in the order of picking; a smaller count keeps a subset.

    Args:
        score: with `embedding [n, d]` among its signals.
        count: units kept.
        start: ids of units that are kept first; they count.
        max_ram: bytes for similarities; the selection does not depend on it.
        within: all = one function; class = one for every label, counts in proportion (rows).

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding, a zero one, an impossible count, an unknown id in start.
        NonFinite: an embedding or a score is NaN or infinite.
    """

    def one(piece: GroupScore, few: int) -> Positions:
        found = vectors(piece)
        similarity = submodular.Cosine(found.directions("facility location"))
        similarity, block = submodular.within_memory(similarity, max_ram)
        state = submodular.facility_location(similarity, few, start=found.places(start, few), block=block)
        return found.order[np.array(state.order, dtype=np.int64)]

    return choose(score, count, within, start, one)
