"""Global: one ranking over all groups, with a floor for each; known as global pruning (Lee et al. 2019; own floors).

Removes: nothing itself; splits a budget over groups by their scores.
Needs: scores that can be compared across groups (normalise them first when they can't); floors, caps and costs where
  given.
Cost: O(N) for N units when costs are 1 (a partition, no sort), O(N log N) else; memory N float64.
Departures: own. Floors are met first with the best units of each group, caps cut the worst; the rest is ranked
  together. Equal scores at the border go to the group of smaller name. With prices the ranking is followed until the
  next unit would not fit. More groups than budget: the groups of the best single units get them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.allocate.request import Counts, Floats, Request
from prunus.core.registry import allocator


@allocator(needs=("scores",))
def global_(request: Request) -> Counts:
    """Counts of the units that rank highest over all groups.

    Args:
        request: the groups, their scores and the total.

    Returns:
        int64 `[g]`; monotone in the total.
    """
    order = request.by_name
    pools = [_between(request, int(group)) for group in order]
    pooled = np.concatenate(pools) if pools else np.zeros(0)
    counts = request.floors.copy()
    if request.unit_costs:
        counts[order] += _over_threshold(pools, pooled, request.whole_total - int(request.floors.sum()))
        return counts
    owner = np.repeat(np.arange(order.size), [pool.size for pool in pools])
    counts[order] += _affordable(
        pooled, owner, request.costs[order], request.total - float(request.floors @ request.costs)
    )
    return counts


def _between(request: Request, group: int) -> Floats:
    """The scores of one group without the floor's best and without the worst beyond the cap; large stays first."""
    values = request.first_to_keep(group)
    low, high = int(request.floors[group]), int(request.caps[group])
    if low == 0 and high == values.size:
        return values
    return np.sort(values)[::-1][low:high]


def _over_threshold(pools: list[Floats], pooled: Floats, count: int) -> Counts:
    if count == 0:
        return np.zeros(len(pools), dtype=np.int64)
    threshold = np.partition(pooled, pooled.size - count)[pooled.size - count]
    counts = np.array([int((pool > threshold).sum()) for pool in pools], dtype=np.int64)
    left = count - int(counts.sum())
    for group, pool in enumerate(pools):
        tied = min(left, int((pool == threshold).sum()))
        counts[group] += tied
        left -= tied
    return counts


def _affordable(pooled: Floats, owner: NDArray[np.int64], costs: Floats, total: float) -> Counts:
    ranked = owner[np.argsort(-pooled, kind="stable")]
    spent = np.cumsum(costs[ranked])
    fits = int(np.searchsorted(spent, total * (1 + 1e-12), side="right"))
    return np.bincount(ranked[:fits], minlength=costs.size).astype(np.int64)
