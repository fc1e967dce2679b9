"""Counts that meet a budget whose cost is not a sum over units: the MACs and parameters of a model with coupled groups.

Units are dropped from the lowest score up, over all groups together, and the cost of the model that is left is evaluated by the
caller's exact function. The cost falls with every unit dropped, so the number to drop is found by bisection: about 20 evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable

Cost = Callable[[Mapping[str, int]], Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Level:
    """One group as the ladder sees it.

    Attributes:
        name: of the group; ties between groups go to the smaller name.
        scores: `[size]`, large stays.
        tag: groups of one tag and size are cut alike when the budget asks for the same shape.
    """

    name: str
    scores: NDArray[np.floating]
    tag: str = ""


def by_cost(levels: Sequence[Level], budget: Budget, cost: Cost, *, floor_share: float = 0.1) -> dict[str, int]:
    """How many units each group keeps.

    Args:
        levels: the groups.
        budget: terms over quantities that `cost` returns; its floor, round_to and same_shape are honoured.
        cost: kept counts -> quantity -> number; must not rise when a count falls.
        floor_share: least share of each group that stays, beside the budget's own floor.

    Returns:
        Group name -> kept count: the fewest drops that meet every term.

    Raises:
        BudgetUnreachable: even the floors cost more, or the tolerance is narrower than one step; names what can be had.
    """
    ladder = _ladder(levels, budget, floor_share)
    dense = cost(ladder.counts(0))
    limits = budget.limits(dense)

    def meets(drops: int) -> bool:
        return limits.met(cost(ladder.counts(drops)))

    low, high = 0, ladder.steps
    if not meets(high):
        raise BudgetUnreachable(
            f"{budget} can't be met: with every group at its floor ({max(budget.floor, 1)} units, "
            f"{100 * floor_share:.3g} % of the group) more is left",
            nearest=limits.shown(cost(ladder.counts(high))),
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle + 1, high)
    if budget.tolerance is not None:
        _within(budget, dense, [cost(ladder.counts(drops)) for drops in (low, max(low - 1, 0))])
    return ladder.counts(low)


def least(levels: Sequence[Level], budget: Budget, *, floor_share: float = 0.1) -> dict[str, int]:
    """What each group keeps at its floor: the smallest model that `by_cost` can give."""
    ladder = _ladder(levels, budget, floor_share)
    return ladder.counts(ladder.steps)


def _ladder(levels: Sequence[Level], budget: Budget, floor_share: float) -> _Ladder:
    if not levels:
        raise BadInput("there is no group to take units from: everything is frozen (see `prunus check`)")
    if not 0 <= floor_share <= 1:
        raise BadInput(f"floor_share is a share of each group, not {floor_share}")
    return _Ladder(levels, budget, floor_share)


def _within(budget: Budget, dense: Mapping[str, float], found: Sequence[Mapping[str, float]]) -> None:
    """Refuse a plan of which every quantity is further below the budget than the tolerance; a second one is the step above."""
    limits = budget.limits(dense)
    gaps = {name: (most - found[0][name]) / dense[name] for name, most in limits.most.items()}
    if budget.tolerance is not None and min(gaps.values()) > budget.tolerance + 1e-12:
        shown = " or ".join(map(limits.shown, found))
        raise BudgetUnreachable(f"{budget} can't be met within {100 * budget.tolerance:.3g} %", nearest=shown)


class _Ladder:
    """Every unit that may go, lowest score first; rung k drops the first k of them."""

    def __init__(self, levels: Sequence[Level], budget: Budget, floor_share: float) -> None:
        self.classes = _classes(levels, same_shape=budget.same_shape)
        self.sizes = np.array([members[0].scores.size for members in self.classes], dtype=np.int64)
        self.multiples = np.array([budget.step(int(size)) for size in self.sizes], dtype=np.int64)
        share = np.ceil(self.sizes * floor_share - 1e-9).astype(np.int64)
        self.floors = np.minimum(np.maximum(np.maximum(share, budget.floor), 1), self.sizes)
        pooled, owners = [], []
        for number, members in enumerate(self.classes):
            rungs = np.mean([np.sort(level.scores.astype(np.float64)) for level in members], axis=0)
            rungs = rungs[: int(self.sizes[number] - self.floors[number])]
            pooled.append(rungs)
            owners.append(np.full(rungs.size, number))
        scores, owner = np.concatenate(pooled), np.concatenate(owners)
        self.owner = owner[np.lexsort((owner, scores))]
        self.steps = int(self.owner.size)

    def counts(self, drops: int) -> dict[str, int]:
        """Kept counts after dropping the `drops` lowest; rounded up to the multiples of the budget."""
        gone = np.bincount(self.owner[:drops], minlength=len(self.classes))
        kept = np.minimum(-(-(self.sizes - gone) // self.multiples) * self.multiples, self.sizes)
        return {level.name: int(count) for members, count in zip(self.classes, kept) for level in members}


def _classes(levels: Sequence[Level], *, same_shape: bool) -> list[list[Level]]:
    """Groups that are cut alike: each alone, or all of one tag and size."""
    ordered = sorted(levels, key=lambda level: level.name)
    if not same_shape:
        return [[level] for level in ordered]
    classes: dict[tuple[str, int], list[Level]] = {}
    for level in ordered:
        classes.setdefault((level.tag or level.name, level.scores.size), []).append(level)
    return list(classes.values())
