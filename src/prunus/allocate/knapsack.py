"""Knapsack: the counts of largest total score within the budget (own); global ranking approximates it.

Removes: nothing itself; splits a budget over groups by scores and prices.
Needs: scores that can be added and compared across groups; costs where units have different prices.
Cost: a mixed-integer program with one variable for each unit, solved by HiGHS through scipy; greedy by score per
  price, then a fill, beyond `largest` units or when no answer comes within `time_limit`.
Departures: own. `request.notes["knapsack"]` states which of the two answered and how far from the best it may be. An
  answer cut short by `time_limit` may differ between machines; the note then shows a gap above 0. Unlike global
  ranking the answer may use the whole budget, and is not monotone in the total.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]
from scipy.optimize import Bounds, LinearConstraint, milp  # pyright: ignore

from prunus.allocate.request import Counts, Floats, Request
from prunus.core.errors import BadInput
from prunus.core.registry import allocator


@allocator(needs=("scores",))
def knapsack(request: Request, *, time_limit: float = 20.0, gap: float = 0.0, largest: int = 50_000) -> Counts:
    """Counts whose best units have the largest sum of scores, at a cost of at most the total.

    Args:
        request: the groups, their scores (large stays; negative scores are kept only to meet floors) and prices.
        time_limit: seconds for the solver.
        gap: relative distance from the best at which the solver may stop; 0 asks for the best.
        largest: units above which the greedy answer is taken at once.

    Returns:
        int64 `[g]`. With unit costs they add up to the total exactly.
    """
    order = request.by_name
    pools = [np.sort(request.first_to_keep(int(group)))[::-1][: int(request.caps[group])] for group in order]
    values, owner = _pooled(pools)
    counts = request.floors.copy()
    found = None
    if 0 < values.size <= largest:
        found = _solve(values, owner, request, order, time_limit, gap)
    if found is None:
        found = _greedy(values, owner, request, order)
        request.notes["knapsack"] = (
            f"greedy by score per price over {values.size} units, then a fill; no bound on the distance"
        )
    counts[order] = found
    return counts


def _pooled(pools: list[Floats]) -> tuple[Floats, NDArray[np.int64]]:
    owner = np.repeat(np.arange(len(pools), dtype=np.int64), [pool.size for pool in pools])
    return (np.concatenate(pools) if pools else np.zeros(0)), owner


def _solve(
    values: Floats, owner: NDArray[np.int64], request: Request, order: NDArray[np.int64], time_limit: float, gap: float
) -> Counts | None:
    """The solver's answer, or None when it has none in time."""
    costs, floors = request.costs[order], request.floors[order].astype(np.float64)
    membership = sparse.csr_array(
        (np.ones(values.size), (owner, np.arange(values.size))), shape=(order.size, values.size)
    )
    price = sparse.csr_array(costs[owner][None, :] / costs.max())
    total = request.total / float(costs.max())
    least = total if request.unit_costs else -np.inf
    spend = LinearConstraint(price, least, total * (1 + 1e-12))
    keep = LinearConstraint(membership, floors, np.inf)  # pyright: ignore[reportArgumentType]
    scale = max(float(np.abs(values).max()), 1e-300)
    answer: Any = milp(
        -values / scale,
        integrality=np.ones(values.size),
        bounds=Bounds(0, 1),
        constraints=[spend, keep],
        options={"time_limit": time_limit, "mip_rel_gap": gap},
    )
    if answer.x is None:
        return None
    kept: NDArray[np.bool_] = np.asarray(answer.x, dtype=np.float64) > 0.5
    request.notes["knapsack"] = f"HiGHS over {values.size} units, gap {float(answer.mip_gap or 0.0):.2g}"
    return np.bincount(owner[kept], minlength=order.size).astype(np.int64)


def _greedy(values: Floats, owner: NDArray[np.int64], request: Request, order: NDArray[np.int64]) -> Counts:
    """Floors first, then units by score per price while they fit."""
    costs, counts = request.costs[order], request.floors[order].copy()
    starts = np.searchsorted(owner, np.arange(order.size))
    open_ = np.arange(owner.size) - starts[owner] >= counts[owner]  # not among the best that the floor keeps
    worth = values[open_] / costs[owner[open_]]
    rest = request.total * (1 + 1e-12) - float(counts @ costs)
    if request.unit_costs:
        first = owner[open_][np.argsort(-worth, kind="stable")][: round(rest)]
        return counts + np.bincount(first, minlength=order.size).astype(np.int64)
    for position in np.argsort(-worth, kind="stable").tolist():
        group = int(owner[open_][position])
        if costs[group] <= rest and worth[position] > 0:
            counts[group] += 1
            rest -= costs[group]
    return counts


def best_value(request: Request, counts: Counts) -> float:
    """The sum of the scores of the best `counts` units of every group: what knapsack maximises."""
    if counts.shape != request.sizes.shape:
        raise BadInput(f"counts of {counts.size} groups for {request.sizes.size} groups")
    sums = [np.sort(request.first_to_keep(g))[::-1][: int(count)].sum() for g, count in enumerate(counts.tolist())]
    return float(np.sum(sums))
