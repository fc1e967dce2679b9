"""Strata: equal counts by water-filling: what small groups can't fill goes to larger ones (Zheng et al. 2022).

Removes: nothing itself; splits a budget over groups, usually the strata of a score (coverage-centric selection) or
  classes.
Needs: group sizes; floors and caps where given. Units are counted, so costs must be 1.
Cost: O(g log g); O(g^2) in the worst case when floors bind.
Departures: the released routine has no floors and no caps; with neither the counts are the same up to ties, which its
  unstable sort decides. The groups are served from the smallest to the largest: of a rest b over r groups each gets
  min(population, floor(b / r)), so the largest groups take the remainder and the counts are monotone in the total.
  Equal populations are served in the order of their names. More groups than budget: the groups served last, which are
  the largest, get one unit each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.allocate.request import Counts, Request
from prunus.core.registry import allocator


@allocator(card="ccs")
def strata(request: Request) -> Counts:
    """Water-filling counts.

    Args:
        request: the groups and the total; caps bound the population of a group, floors lift it.

    Returns:
        int64 `[g]`, adding up to the total.
    """
    left, order = request.whole_total, request.by_name
    counts = np.zeros(order.size, dtype=np.int64)
    active = order[np.argsort(request.caps[order], kind="stable")]
    while active.size:
        counts[active] = fill(request.caps[active], left)
        below = counts[active] < request.floors[active]
        if not below.any():
            break
        # Groups below their floor would stay below it at any lower level, so they are settled for good.
        lifted = active[below]
        counts[lifted] = request.floors[lifted]
        left -= int(request.floors[lifted].sum())
        active = active[~below]
    return counts


def fill(populations: NDArray[np.int64], total: int) -> Counts:
    """Water-filling counts, int64 `[g]`, for populations in ascending order."""
    counts = np.zeros(populations.size, dtype=np.int64)
    for position, population in enumerate(populations.tolist()):
        counts[position] = min(population, total // (populations.size - position))
        total -= int(counts[position])
    return counts
