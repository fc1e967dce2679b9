"""Proportional: counts in proportion to a power of the group's size or to the sum of its scores.

Removes: nothing itself; splits a budget over groups.
Needs: group sizes, or scores at least 0 (`by="score"`); floors, caps and costs where given.
Cost: O(g log g), plus one pass over the scores.
Departures: own. `power` between 0 (equal counts) and 1 (equal shares) is the temperature used for mixing languages
  and domains; more groups than budget: the groups of largest weight get one unit each, ties to the smaller name.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from prunus.allocate.apportion import apportion
from prunus.allocate.request import Counts, Floats, Request
from prunus.core.errors import BadInput
from prunus.core.registry import allocator


@allocator()
def proportional(request: Request, *, by: Literal["size", "score"] = "size", power: float = 1.0) -> Counts:
    """Counts in proportion to `weight ** power`, projected onto floors, caps and the total.

    Args:
        request: the groups and the total.
        by: the weight of a group: its size, or the sum of the scores of its units (which must be at least 0).
        power: exponent of the weight; 0 gives equal counts, 1 the same share of every group when by size.

    Returns:
        int64 `[g]`.
    """
    if not 0 <= power <= 8:
        raise BadInput(f"power must lie between 0 and 8, not {power}")
    weights = request.sizes.astype(np.float64) if by == "size" else _score_sums(request)
    return apportion(request, np.where(request.sizes > 0, weights, 1.0) ** power * (request.sizes > 0))


def _score_sums(request: Request) -> Floats:
    if request.scores is None:
        raise BadInput("by='score' needs scores, and the request has none; use by='size'")
    for name, values in zip(request.names, request.scores):
        if values.size and values.min() < 0:
            raise BadInput(f"by='score' needs scores of at least 0; group {name!r} has {values.min():g}")
    return np.array([float(values.sum(dtype=np.float64)) for values in request.scores])
