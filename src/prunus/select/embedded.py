"""What selectors that read embeddings share: rows in the order of their ids, and their clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.score import GroupScore, check_finite
from prunus.maths import spherical
from prunus.maths.spherical import Clusters
from prunus.select.by_label import check_count
from prunus.select.vectors import in_order

if TYPE_CHECKING:
    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions


@dataclass(frozen=True, eq=False)
class Embedded:
    """Rows sorted by id, so that what is drawn or summed by position follows the ids.

    Attributes:
        x: `[n, d]`, no zero row.
        at: int64 `[n]`, the position in the score of each row here.
        ids: `[n]`, ascending.
        values: `[n]`, the score.
    """

    x: NDArray[np.floating]
    at: Positions
    ids: NDArray[np.generic]
    values: NDArray[np.floating]

    def clusters(self, number: int, iterations: int, given: Clusters | None, rng: Rng) -> Clusters:
        """Those given for the rows of the score, or `number` new ones."""
        if given is None:
            return spherical.kmeans(self.x, number, iterations=iterations, seed=rng.integer())
        if given.assigned.shape != self.at.shape:
            raise BadInput(f"the clusters hold {given.assigned.size} rows, the score {self.at.size}")
        return given.take(self.at)


def embedded(score: GroupScore, count: int, what: str) -> Embedded:
    """Check a score and the embedding that came with it.

    Raises:
        BadInput: no embedding, or a row of it is zero; names its id.
        NonFinite: a value or an embedding is NaN or infinite.
    """
    check_count(score, count)
    check_finite(score.name, score.values, score.ids)
    embedding = getattr(score.signals, "embedding", None)
    if embedding is None:
        raise BadInput(f"{what} compares embeddings, and none came with the score: give signals with embedding [n, d]")
    x = np.asarray(embedding)
    spherical.check_directions(x, score.ids)
    order = np.argsort(score.ids, kind="stable").astype(np.int64)
    return Embedded(in_order(x, order), order, score.ids[order], score.values[order])
