"""BlockPruner: the attention or feed-forward branch whose loss is smallest without it goes, again and again (Zhong et al. 2024).

Removes: layers: residual branches with their norms, or whole blocks.
Needs: a few texts (or labelled rows) to measure the loss on; perplexity is its exponential.
Cost: for n removals out of b branches n * b - n * (n - 1) / 2 passes over the rows; once: b + 1. Hidden states before the first block
 that a plan changes are kept, so a pass of branches takes about half (memory: blocks * rows * tokens * width * 4 bytes).
Departures: the first attention stays (pin_first): a layer without attention never writes its part of a cache, and caches
 count what was written at the first layer. Every row counts alike in the loss, as released; padding does not count. The
 order is in the plan's provenance, so one search serves all larger budgets. A model whose blocks have no branches that can be
 left out alone is searched block by block, the last of a chain always staying.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from prunus.core.budget import Budget
from prunus.core.edits import Bypass
from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search

Place = tuple[int, int]  # row, position
KINDS = ("mix", "attention", "mlp", "layer")


@search(unit="layers", card="blockpruner")
def blockpruner(
    prunable: Any,
    budget: Budget,
    *,
    probe: Callable[[Plan], float],
    block_type: Literal["mix", "attention", "mlp", "layer"] = "mix",
    once: bool = False,
    pin_first: bool = True,
) -> Plan:
    """What goes, the cheapest first.

    Args:
        prunable: the model with its chains and branches.
        budget: branches (or blocks) that stay, as `54 layers`, `90% layers`, `drop 6 layers`.
        probe: loss of the model under a plan.
        block_type: branches of both kinds, of one, or whole blocks.
        once: measure every branch alone once and drop the cheapest together.
        pin_first: the first attention (or block) stays.

    Returns:
        A Plan; its provenance holds the order, the loss after each removal, and how many plans were tried.

    Raises:
        BudgetUnreachable: more must stay than the budget allows.
    """
    rows = rows_of(prunable, block_type)
    total = sum(len(row.children) for row in rows)
    count = total - budget.count(total)
    tried = Tried(rows, budget, probe)
    free = candidates(rows, budget, pin_first)
    if count > len(free):
        raise BudgetUnreachable(f"{budget}: {count} would go, {len(free)} may", nearest=f"{total - len(free)} layers")
    gone = cheapest_together(tried, free, count) if once else one_by_one(tried, free, count)
    made = {"order": [rows[row].children[at] for row, at in gone], "loss": tried.values, "evaluations": tried.count}
    return tried.plan(gone, {"method": "layers/blockpruner", **made})


def rows_of(prunable: Any, block_type: str) -> tuple[Any, ...]:
    """The chains searched: rows of branches, attention before feed-forward, or chains of whole blocks."""
    if block_type not in KINDS:
        raise UnknownName("type of blocks", block_type, KINDS)
    if block_type == "layer" or (block_type == "mix" and not prunable.branches):
        rows = prunable.chains
    elif block_type == "mix":
        rows = prunable.branches
    else:
        rows = tuple(row for row in prunable.branches if row.attends == (block_type == "attention"))
    if not rows:
        raise BadInput(f"this model has no {block_type} blocks that can be left out: see `prunus check`")
    return rows


def candidates(rows: tuple[Any, ...], budget: Budget, pin_first: bool) -> list[Place]:
    """What may go, in the order in which ties are decided."""
    pinned = {str(name) for name in budget.pin}
    free = [(r, at) for r, row in enumerate(rows) for at in range(len(row.children)) if row.removable[at]]
    first = {(r, 0) for r, row in enumerate(rows) if pin_first and (row.attends or ":" not in row.path)}
    return [place for place in free if place not in first and rows[place[0]].children[place[1]] not in pinned]


class Tried:
    """Plans that were measured.

    Attributes:
        values: loss after each removal that was decided.
        count: plans measured.
    """

    def __init__(self, rows: tuple[Any, ...], budget: Budget, probe: Callable[[Plan], float]) -> None:
        self.rows, self.budget, self.probe = rows, budget, probe
        self.values: list[float] = []
        self.count = 0

    def remember(self, gone: list[Place]) -> None:
        """What comes before a change need not be computed again, if the probe can keep it."""
        if hasattr(self.probe, "remember"):
            nothing = replace(self.budget, terms=())  # a plan that leaves out nothing yet
            self.probe.remember(self.plan(gone, asked=nothing))  # pyright: ignore[reportFunctionMemberAccess]

    def loss(self, gone: list[Place]) -> float:
        """Without these."""
        self.count += 1
        return float(self.probe(self.plan(gone)))

    def plan(self, gone: list[Place], made: dict[str, Any] | None = None, asked: Budget | None = None) -> Plan:
        """Everything else stays."""
        groups: dict[str, Kept] = {}
        for number, row in enumerate(self.rows):
            without = [at for r, at in gone if r == number]
            groups[row.path] = Kept.of_ids(np.setdiff1d(np.arange(len(row.children)), without), len(row.children))
        total = sum(len(row.children) for row in self.rows)
        edits = tuple(Bypass(self.rows[r].children[at]) for r, at in sorted(gone))
        planned, dense = {"layers": float(total - len(gone))}, {"layers": float(total)}
        return Plan("layers", groups, asked or self.budget, planned, dense, edits, provenance=made or {})

    def empties(self, gone: list[Place], place: Place) -> bool:
        """Whether a chain of whole blocks would have none left."""
        row = self.rows[place[0]]
        return ":" not in row.path and sum(r == place[0] for r, _ in gone) + 1 >= len(row.children)


def one_by_one(tried: Tried, free: list[Place], count: int) -> list[Place]:
    """The greedy search: every remaining branch is tried beside what is gone; the strictly smallest loss goes."""
    gone: list[Place] = []
    for _ in range(count):
        left = [place for place in free if place not in gone and not tried.empties(gone, place)]
        if not left:
            raise BudgetUnreachable(f"{tried.budget}: every chain is down to one block", nearest=_left(tried, gone))
        tried.remember(gone)
        losses = [tried.loss([*gone, place]) for place in left]
        best = int(np.argmin(losses))  # the first of equal ones
        gone.append(left[best])
        tried.values.append(losses[best])
    return gone


def cheapest_together(tried: Tried, free: list[Place], count: int) -> list[Place]:
    """Those that are cheapest alone, all at once."""
    if count:
        tried.remember([])
    losses = [tried.loss([place]) for place in free] if count else []
    gone: list[Place] = []
    for at in np.argsort(losses, kind="stable").tolist():
        if len(gone) < count and not tried.empties(gone, free[at]):
            gone.append(free[at])
    if len(gone) < count:
        raise BudgetUnreachable(f"{tried.budget}: every chain is down to one block", nearest=_left(tried, gone))
    if gone:
        tried.values.append(tried.loss(gone))
    return gone


def _left(tried: Tried, gone: list[Place]) -> str:
    return f"{sum(len(row.children) for row in tried.rows) - len(gone)} layers"
