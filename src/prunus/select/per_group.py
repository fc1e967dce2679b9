"""Per group: the largest scores of a whole matrix stay. The classical cut of a layer at one threshold.

Removes: weights (any unit, when values are `[n]`).
Needs: a score.
Cost: O(n), one partition of the group; no sort, no copy in another precision. Memory about 2 n numbers.
Departures: exact count, ties broken so that the lower flat index goes first; of units with ids the lower id stays. The
 released code of Wanda prunes everything at or below the value at index int(numel * sparsity): one weight more than
 asked, and a matrix of equal values is wiped out; parity="official".
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore, check_finite
from prunus.maths.partial import keep_largest


def as_lines(score: GroupScore) -> np.ndarray:
    """Scores as `[outputs, inputs]` where large stays; one-dimensional scores are one line.

    Raises:
        NonFinite: NaN sorts last and would survive, so it is refused here.
        BadInput: more than two axes.
    """
    values = np.asarray(score.values)
    check_finite(score.name, values, np.asarray(score.ids))
    if values.ndim not in (1, 2):
        raise BadInput(
            f"scores of {score.name or 'a group'} are [n] or [outputs, inputs], not {values.shape}: flatten kernels"
        )
    values = values if score.sense != "easy" else -values
    return values.reshape(1, -1) if values.ndim == 1 else values


def check_count(score: GroupScore, count: int) -> None:
    """Refuse a count that the group can't give."""
    size = np.asarray(score.values).size
    if not 0 < count <= size:
        raise BadInput(f"can't keep {count} of the {size} weights of {score.name or 'this group'}: keep 1 to {size}")


@selector(card="magnitude-nm")
def per_group(score: GroupScore, count: int, *, parity: Literal["paper", "official"] = "paper") -> np.ndarray:
    """Keep the `count` largest of the whole group.

    Args:
        score: values `[outputs, inputs]` or `[n]`.
        count: how many stay.
        parity: official keeps what lies strictly above the sorted value at index size - count.

    Returns:
        int64 flat positions that stay, sorted.
    """
    values = as_lines(score)
    check_count(score, count)
    if parity == "official":
        place = min(values.size - count, values.size - 1)
        return np.flatnonzero(values.reshape(-1) > np.partition(values.reshape(-1), place)[place])
    if np.asarray(score.values).ndim == 1 and np.asarray(score.ids).size == values.size:
        return np.sort(score.keep_order()[:count])  # units with ids: ties must not depend on the order they come in
    return np.flatnonzero(keep_largest(values.reshape(1, -1), count))
