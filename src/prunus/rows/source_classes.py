"""Source classes ranked by how much a target looks like them: what label mapping and feature mapping share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
Combine = Literal["sum", "max"]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The classes 0..k-1 of a source.

    Attributes:
        votes: float64 `[k]`, rows of the target that fell to each class; of several targets their shares, combined.
        order: int64 `[k]`, classes, first to stay first.
    """

    votes: Floats
    order: Positions

    def kept(self, classes: int) -> Positions:
        """The first `classes` of the ranking, int64.

        Raises:
            BadInput: fewer than 1 or more than there are.
        """
        if not 1 <= classes <= self.order.size:
            raise BadInput(f"can't keep {classes} of {self.order.size} source classes: keep 1 to {self.order.size}")
        return self.order[:classes]

    def rows(self, labels: NDArray[Any], classes: int) -> Positions:
        """Positions of all rows of the first `classes`, int64: their number is the budget that keeps whole classes."""
        return np.flatnonzero(np.isin(labels, self.kept(classes)))

    def unvoted(self, classes: int) -> Positions:
        """Classes among the first `classes` that no row of the target fell to: kept without evidence."""
        kept = self.kept(classes)
        return kept[self.votes[kept] == 0]

    def covering(self, share: float = 0.95) -> int:
        """The fewest classes, in the order of the ranking, that hold this share of the votes.

        Raises:
            BadInput: a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise BadInput(f"a share of the votes lies in (0, 1], not {share}")
        reached = np.cumsum(self.votes[self.order])
        return int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))) + 1

    def values(self, labels: NDArray[Any]) -> Floats:
        """The score of each row, float64 `[n]`: k for rows of the first class, 1 for those of the last."""
        place = np.empty(self.order.size)
        place[self.order] = np.arange(self.order.size, 0, -1)
        return place[labels]


def rank(
    votes: Sequence[Floats],
    nearness: Sequence[Floats],
    *,
    first: Literal["votes", "nearness"] = "votes",
    combine: Combine = "sum",
    ties: Literal["nearness", "id"] = "nearness",
    reverse: bool = False,
) -> Ranking:
    """Rank by votes, then by nearness, then by class number.

    Args:
        votes: of every target `[k]`; several are turned into shares first.
        nearness: of every target `[k]`, larger for classes that are more like it.
        first: nearness = votes decide nothing.
        combine: several targets: the sum of their shares, or the largest.
        ties: equal votes: by nearness, or id for the class number alone.
        reverse: the last ones first: the control.

    Raises:
        BadInput: an option that does not exist.
    """
    if combine not in ("sum", "max") or ties not in ("nearness", "id"):
        raise BadInput(f"combine is sum or max and ties nearness or id, not {combine!r} and {ties!r}")
    together = np.sum if combine == "sum" else np.max
    counts = votes[0] if len(votes) == 1 else together([one / one.sum() for one in votes], axis=0)
    near = together(nearness, axis=0)
    keys = [near] if first == "nearness" else [counts] if ties == "id" else [near, counts]
    sign = 1 if reverse else -1
    return Ranking(counts, np.lexsort((np.arange(counts.size), *(sign * key for key in keys))))


def class_numbers(labels: Any, what: str) -> Positions:
    """Labels of the source as whole numbers from 0, int64 `[n]`.

    Raises:
        BadInput: of another shape or kind.
    """
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in "iub" or (found.size and found.min() < 0):
        raise BadInput(
            f"{what} needs one class number from 0 for each source row, not labels of {found.dtype} {list(found.shape)}"
        )
    return found.astype(np.int64)
