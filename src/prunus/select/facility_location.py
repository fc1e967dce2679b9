"""Facility location: keep units such that every unit has a similar kept one (Wei et al. 2015; as in DeepCore 2022).

Removes: units that a kept one stands for.
Needs: embedding, no zero vectors; labels for `within="class"`. The score itself is only checked.
Cost: at least n d multiplications for the first unit and n² d for all others together, in float64; more where n² similarities
  do not fit in `max_ram` (4 n² bytes in half of it), because those looked at again are computed again. Memory 20 n d
  bytes and at most max_ram. Per class it is n_c². With `neighbours=k` 2 n² d in float32 for the neighbours (faiss), then
  O((n + m k) log n) for m units kept; memory 16 n d + 150 n k bytes.
Departures: similarity `0.5 + 0.5 cos` of embeddings, where DeepCore takes last-layer gradients (cheaper here; the card's
  digits differ by 0.5 points). Zero vectors, which give NaN in DeepCore, are refused by id. Lazy greedy over blocks of
  columns: the same units as naive greedy. Gains that differ by less than 2.4e-7 are equal, and the lower id wins.
  `neighbours` leaves out the similarities that are small, for more units than n² allows (above about 20,000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths import submodular
from prunus.maths.neighbours import nearest
from prunus.maths.sparse_location import sparse_location
from prunus.select.vectors import MAX_RAM, Start, choose, vectors

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@selector(
    needs=("embedding",),
    card="coreset-baselines",
    within="all",
    memory="(16 * n * d + 150 * n * neighbours + 67108864) if neighbours else (20 * n * d + 100 * n + 65536 * d)",
)
def facility_location(
    score: GroupScore,
    count: int,
    *,
    neighbours: int | None = None,
    start: Start = (),
    max_ram: int = MAX_RAM,
    within: Literal["all", "class"] = "all",
) -> Positions:
    """Positions of units that stand for all others, in the order of picking; a smaller count keeps a subset.

    Args:
        score: with `embedding [n, d]` among its signals.
        count: units kept.
        neighbours: None = every unit counts for every other; else similarities count between a unit and its nearest only.
        start: ids of units that are kept first; they count.
        max_ram: bytes for similarities; the selection does not depend on it.
        within: all = one function; class = one for every label, counts in proportion (rows).

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: no embedding, a zero one, an impossible count, an unknown id in start.
        NonFinite: an embedding or a score is NaN or infinite.
    """

    if neighbours is not None and neighbours < 1:
        raise BadInput(f"neighbours must be 1 or more, or None for all, not {neighbours}")

    def one(piece: GroupScore, few: int) -> Positions:
        found = vectors(piece)
        directions, begin = found.directions("facility location"), found.places(start, few)
        if neighbours is None:
            similarity, block = submodular.within_memory(submodular.Cosine(directions), max_ram)
            picked = submodular.facility_location(similarity, few, start=begin, block=block).order
        else:
            links = nearest(directions, neighbours).links()
            alike = 1 - links.squares / 4  # 0.5 + 0.5 cos
            picked = sparse_location(links.starts, links.others, alike, few, start=begin).order
        return found.order[np.array(picked, dtype=np.int64)]

    return choose(score, count, within, start, one)
