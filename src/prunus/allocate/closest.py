"""Closest: counts nearest to given targets, within floors and caps (the allocation of Abbas et al. 2024, exactly).

Removes: nothing itself; splits a budget over groups. What a full group can't take goes to the others in equal parts,
  not in proportion: the shift is the same for all.
Needs: group sizes; scores at least 0 (`by="score"`); floors and caps where given. Units are counted: costs of 1 only.
Cost: O(g log g).
Departures: the released code gives this to an iterative quadratic solver and rounds each group alone, which misses
  the total; here the projection is exact, clip(target - shift, floor, cap) with the one shift that meets the total,
  then largest remainders, ties to the smaller name.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from prunus.allocate.apportion import whole
from prunus.allocate.request import Counts, Floats, Request
from prunus.core.errors import BadInput
from prunus.core.registry import allocator


@allocator(card="dbp")
def closest(request: Request, *, by: Literal["size", "score"] = "score", temperature: float = 0.1) -> Counts:
    """Counts nearest to `total * softmax(weight / temperature)`, in the sum of squares.

    Args:
        request: the groups and the total.
        by: the weight of a group: the mean score of its units, or its share of all units.
        temperature: of the softmax; large makes the targets equal.

    Returns:
        int64 `[g]`, adding up to the total.
    """
    total, order = request.whole_total, request.by_name
    if by == "score":
        if request.scores is None:
            raise BadInput("by='score' needs scores, and the request has none; use by='size'")
        weights = np.array([float(v.mean(dtype=np.float64)) if v.size else np.nan for v in request.scores])
    else:
        weights = request.sizes / max(int(request.sizes.sum()), 1)
    targets = total * softmax(weights[order], temperature)
    counts = np.empty(order.size, dtype=np.int64)
    shares = project(targets, request.floors[order], request.caps[order], total)
    counts[order] = whole(shares, request.caps[order], total)
    return counts


def softmax(weights: Floats, temperature: float) -> Floats:
    """exp(w / temperature), adding up to 1, float64 `[g]`; NaN (an empty group) counts as the mean of the others."""
    if not temperature > 0:
        raise BadInput(f"temperature must be above 0, not {temperature}")
    known = ~np.isnan(weights)
    filled = np.where(known, weights, weights[known].mean() if known.any() else 0.0)
    if not filled.size:
        return filled
    raised = np.exp((filled - filled.max()) / temperature)
    return raised / raised.sum()


def project(targets: Floats, floors: Counts, caps: Counts, total: int) -> Floats:
    """Shares `clip(targets - shift, floors, caps)` that add up to `total`, float64 `[g]`.

    The sum falls from all caps to all floors, in straight pieces between the 2 g shifts at which a group leaves its
    cap or reaches its floor. `total` must lie between the two sums (`Request.of` checks it).
    """
    low, high = floors.astype(np.float64), caps.astype(np.float64)
    if not targets.size:
        return low
    leaves, reaches = np.sort(targets - high), np.sort(targets - low)
    knots = np.unique(np.concatenate([leaves, reaches]))
    # Every group adds its high until it leaves its cap, then falls with slope 1 until it reaches its floor.
    fallen = _ramp(knots, leaves) - _ramp(knots, reaches)
    sums = high.sum() - fallen
    at = int(np.searchsorted(-sums, -float(total), side="left"))
    if at == 0:
        return high
    if at == knots.size:
        return low
    drop = sums[at - 1] - sums[at]
    shift = knots[at - 1] + (knots[at] - knots[at - 1]) * (sums[at - 1] - total) / drop
    return np.clip(targets - shift, low, high)


def _ramp(knots: Floats, starts: Floats) -> Floats:
    """Sum over sorted starts of max(knot - start, 0), float64 for each knot."""
    before = np.searchsorted(starts, knots, side="right")
    return before * knots - np.concatenate([[0.0], np.cumsum(starts)])[before]
