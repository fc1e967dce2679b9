"""Divide a total in proportion to weights, within floors and caps, in whole units: projection and largest remainder.

The shares are `clip(t * weight, floor, cap)` with the one `t` that meets the total: groups that are not clipped stay in
exact proportion. Rounding gives every group the integer part and the units that are left to the largest remainders,
ties to the smaller name. Every count differs from its share by less than 1.
Largest remainder is not monotone in the total: a total that grows by 1 can move a unit from one group to another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.allocate.request import Counts, Floats, Request
from prunus.core.errors import BadInput

_DIGITS = 9  # remainders nearer than this are equal: sums of floats must not decide what names should


def apportion(request: Request, weights: Floats) -> Counts:
    """Whole counts in proportion to `weights`.

    Args:
        request: floors, caps, costs and the total.
        weights: float64 `[g]`, at least 0; groups of weight 0 get more than their floor only when all others are full.

    Returns:
        int64 `[g]`: adds up to the total (unit costs), or costs at most the total, and no unit owed by a remainder
        fits any more.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise BadInput(f"weights of groups must be finite and at least 0: {weights.tolist()[:10]}")
    order = request.by_name  # float sums in one order, whatever order the groups came in
    floors, caps, costs = request.floors[order], request.caps[order], request.costs[order]
    shares = project(weights[order], floors, caps, costs, request.total)
    counts = np.empty(order.size, dtype=np.int64)
    counts[order] = _round(shares, caps, costs, request.total, exact=request.unit_costs)
    return counts


def project(weights: Floats, floors: Counts, caps: Counts, costs: Floats, total: float) -> Floats:
    """Real shares `clip(t * weights, floors, caps)` whose cost is `total`, float64 `[g]`."""
    low, high = floors.astype(np.float64), caps.astype(np.float64)
    free = weights > 0
    shares = low.copy()
    rest = total - float(low[~free] @ costs[~free])
    if free.any():
        most = float(high[free] @ costs[free])
        shares[free] = _clip_to(weights[free], low[free], high[free], costs[free], min(rest, most))
        rest -= most
    if rest > 0 and (~free).any():  # the weighted groups are full: what is left goes to the others by their room
        room = ~free
        spare = rest + float(low[room] @ costs[room])
        shares[room] = _clip_to(np.maximum(high[room], 1.0), low[room], high[room], costs[room], spare)
    return shares


def _clip_to(weights: Floats, low: Floats, high: Floats, costs: Floats, total: float) -> Floats:
    """The exact root of the piecewise linear `t -> cost of clip(t * weights, low, high)`."""
    knots = np.unique(np.concatenate([low / weights, high / weights]))
    spent = (
        np.array([float(np.clip(t * weights, low, high) @ costs) for t in knots])
        if knots.size < 64
        else _spent(knots, weights, low, high, costs)
    )
    right = int(np.searchsorted(spent, total, side="left"))
    if right == 0:
        return low.copy()
    if right == knots.size:
        return high.copy()
    before, after = spent[right - 1], spent[right]
    share = (total - before) / (after - before)
    t = knots[right - 1] + share * (knots[right] - knots[right - 1])
    return np.clip(t * weights, low, high)


def _spent(knots: Floats, weights: Floats, low: Floats, high: Floats, costs: Floats) -> Floats:
    """Cost of the clipped shares at every knot, by prefix sums: O(g log g) rather than O(g^2)."""
    enter, leave = np.argsort(low / weights), np.argsort(high / weights)
    entered = np.searchsorted((low / weights)[enter], knots, side="left")
    left = np.searchsorted((high / weights)[leave], knots, side="left")

    def prefix(values: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(values)])

    slope = prefix((weights * costs)[enter])[entered] - prefix((weights * costs)[leave])[left]
    still_low = float(low @ costs) - prefix((low * costs)[enter])[entered]
    return slope * knots + still_low + prefix((high * costs)[leave])[left]


def whole(shares: Floats, caps: Counts, total: int) -> Counts:
    """Shares that add up to `total` in whole units, by largest remainder; ties to the earlier group; int64 `[g]`."""
    return _round(shares, caps, np.ones(shares.size), total, exact=True)


def _round(shares: Floats, caps: Counts, costs: Floats, total: float, *, exact: bool) -> Counts:
    shares = np.round(shares, _DIGITS)
    counts = np.floor(shares).astype(np.int64)
    remainders = np.round(shares - counts, _DIGITS)
    order = np.argsort(-remainders, kind="stable")
    if exact:
        return _hand_out(counts, order, caps, round(total) - int(counts.sum()))
    rest = total * (1 + 1e-12) - float(counts @ costs)
    for group in order.tolist():
        if remainders[group] > 0 and counts[group] < caps[group] and costs[group] <= rest:
            counts[group] += 1
            rest -= costs[group]
    return counts


def _hand_out(counts: Counts, order: NDArray[np.int64], caps: Counts, left: int) -> Counts:
    """One unit to each group with room, in order, until none is left."""
    while left > 0:
        able = order[counts[order] < caps[order]][:left]
        counts[able] += 1
        left -= able.size
    return counts
