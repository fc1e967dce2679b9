"""PAGCP: channels go group after group while no task's loss rises above a budget of its own (Ye et al. 2023).

Removes: channels of models with several losses: detectors, several heads. With one loss it is greedy sensitivity pruning.
Needs: a trained model, and labelled rows to measure the loss of every task on (a few hundred). A step that returns
 `losses` names the tasks; that of detection does. Losses may be errors of any metric that falls when a model improves.
Cost: at most groups * (1 / step - 1) passes over these rows for each round, and the cut of a copy for each.
Departures: the release is for YOLOv5 and fine-tunes between rounds; here a round that misses the budget is followed by
 another on what it left, with rate and limit raised by their slopes (the released defaults of the slopes are not
 verified; ours are the first rate and limit again). Fine-tune between rounds by planning, recovering and planning anew.
 Filters are ranked by the dense weights, the release's by those of the running model. Of what the last round accepts,
 the groups with the smallest rise of the worst task for each MAC saved go first, the last one as far as the budget
 needs; how the release sums tasks there is not verified. A group that passes every ratio is cut by the last one and uses
 up its threshold; parity="official" leaves it whole. NaN fails, and a loss of 0 may rise to 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.channels.members import makers
from prunus.channels.task_budget import Floats, Walk, decay, relative, visiting_order, walk
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.graph.members import bind

PRICED_AT = 0.3  # share of a group whose removal tells what cutting it saves
WHOLE = Budget.parse("100% macs")
Norm = Literal["l1", "l2"]
Counts = dict[str, int]


@search(unit="channels", card="pagcp")
def pagcp(
    prunable: Any,
    budget: Budget,
    *,
    probe: Any,
    rate: float = 0.05,
    limit: float = 5.0,
    rate_slope: float = 0.05,
    limit_slope: float = 5.0,
    exponential: bool = True,
    step: float = 0.05,
    top: float = 1.0,
    norm: Norm = "l1",
    rounds: int = 10,
    parity: Literal["paper", "official"] = "paper",
) -> Plan:
    """Which channels go.

    Args:
        prunable: the model with its graph.
        budget: what may stay, in MACs, parameters or channels.
        probe: losses of each task under a plan (`probe.tasks`).
        rate: allowed relative rise of any task's loss by the first group of the first round.
        limit: allowed ratio of losses after the first round to those before it.
        rate_slope: added to the rate each round.
        limit_slope: added to the limit each round.
        exponential: thresholds grow or fall from group to group so that together they reach the limit; else all are equal.
        step: between the ratios tried, from `step` to below 1.
        top: share of the groups that a round may cut, those that cost least for each MAC.
        norm: of filters, what goes first within a group: l1 mean absolute weight, l2 root mean square.
        rounds: most rounds.
        parity: official leaves a group whole that passes every ratio.

    Returns:
        A Plan; its provenance holds the tasks, their losses before and after, and how many plans were tried.

    Raises:
        BudgetUnreachable: the floors, or the losses in all rounds, keep more than the budget.
        NonFinite: the model's own losses are not finite.
    """
    if budget.same_shape:
        raise BadInput("pagcp chooses a ratio for each group by its losses: leave same_shape out")
    search = _Search(prunable, budget, probe, ratios(step), norm)
    search.refuse_below_floors()
    for number in range(rounds):
        if search.met(search.counts):
            break
        search.round(rate + number * rate_slope, limit + number * limit_slope, exponential, top, parity)
    if not search.met(search.counts):
        message = f"{budget}: after {rounds} rounds the losses allow no more; raise rounds, rate or limit"
        raise BudgetUnreachable(message, nearest=search.shown(search.counts))
    return search.plan(search.counts, search.account())


def ratios(step: float) -> Floats:
    """What share of a group is tried, from `step` to below 1, ascending."""
    if not 0 < step < 1:
        raise BadInput(f"step is a share of a group, between 0 and 1, not {step}")
    return np.arange(1, round(1 / step + 1e-9), dtype=np.float64) * step


def saliency(group: Any, norm: Norm = "l1") -> Tensor:
    """What the filters of all writers of a channel weigh together: sum over them of mean |w| (l1) or root mean square.

    Args:
        group: Members `[units, per_unit, other]`.
        norm: l1 or l2.

    Returns:
        float64 `[size]`; small goes first.
    """
    if norm not in ("l1", "l2"):
        raise UnknownName("norm of filters", norm, ("l1", "l2"))
    filters = [member.weight.detach().flatten(1).double() for member in makers(group)]
    return torch.stack([w.abs().mean(1) if norm == "l1" else w.square().mean(1).sqrt() for w in filters]).sum(0)


def removed(size: int, ratio: float) -> int:
    """How many of `size` filters a ratio removes: one always stays."""
    return min(int(size * ratio + 1e-9), size - 1)


class _Search:
    """The groups, what is left of them so far, and the losses measured."""

    def __init__(self, prunable: Any, budget: Budget, probe: Any, shares: Floats, norm: Norm) -> None:
        self.prunable, self.budget, self.probe, self.shares = prunable, budget, probe, shares
        groups = prunable.groups("channels")
        if not groups:
            raise BadInput("there is no group to take channels from: everything is frozen (see `prunus check`)")
        self.names = [group.name for group in groups]
        self.sizes: Counts = {group.name: group.size for group in groups}
        self.counts = dict(self.sizes)
        self.dense = prunable.priced(self.sizes)
        self.limits = budget.limits(self.dense)
        scores = {group.name: saliency(bind(group, prunable.model), norm).cpu().numpy() for group in groups}
        if bad := [name for name, values in scores.items() if not np.isfinite(values).all()]:
            raise NonFinite(f"filters of group {bad[0]} are NaN or infinite")
        self.best_first = {name: np.argsort(-values, kind="stable") for name, values in scores.items()}
        self.tasks: list[str] = []
        self.first: list[float] = []
        self.last: list[float] = []
        self.tried = 0

    def met(self, counts: Counts) -> bool:
        return self.limits.met(self.prunable.priced(counts))

    def shown(self, counts: Counts) -> str:
        return self.limits.shown(self.prunable.priced(counts))

    def refuse_below_floors(self) -> None:
        least = {name: self.after(name, 1.0, self.sizes) for name in self.names}
        if not self.met(least):
            raise BudgetUnreachable(f"{self.budget} can't be met by channels", nearest=self.shown(least))

    def after(self, name: str, ratio: float, counts: Counts) -> int:
        """Kept count of a group once a share of what is left of it goes, with the budget's floor and rounding."""
        kept = max(counts[name] - removed(counts[name], ratio), self.budget.floor)
        return min(self.budget.rounded(kept, self.sizes[name]), counts[name])

    def plan(self, counts: Counts, made: dict[str, Any] | None = None) -> Plan:
        groups = {name: Kept.of_ids(self.best_first[name][:count], self.sizes[name]) for name, count in counts.items()}
        planned = self.prunable.priced(counts)
        asked = WHOLE if counts == self.sizes else self.budget
        return Plan("channels", groups, asked, planned, self.dense, (), {}, (), made or {})

    def losses(self, counts: Counts) -> Floats:
        """`[tasks]` of the model that keeps so many."""
        self.tried += 1
        found: Mapping[str, float] = self.probe.tasks(self.plan(counts))
        self.tasks = list(found)
        return np.array(list(found.values()))

    def round(self, rate: float, limit: float, exponential: bool, top: float, parity: Any) -> None:
        """One walk over all groups; then the groups that cost least are cut, until the budget is met."""
        start = dict(self.counts)
        base = self.losses(start)
        self.first = self.first or base.tolist()
        factor = decay(rate, limit, len(self.names)) if exponential and len(self.names) > 1 else 1.0
        macs = self.prunable.priced(start)["macs"]

        def cut(chosen: Mapping[int, int]) -> Counts:
            shares = {self.names[group]: float(self.shares[at]) for group, at in chosen.items()}
            return start | {name: self.after(name, share, start) for name, share in shares.items()}

        def saves(counts: Counts) -> float:
            return macs - self.prunable.priced(counts)["macs"]

        def losses(chosen: Mapping[int, int]) -> Floats:
            try:
                return self.losses(cut(chosen))
            except NonFinite:
                return np.full(base.shape, np.nan)

        gains = [saves(start | {name: self.after(name, PRICED_AT, start)}) for name in self.names]
        order = visiting_order(gains, factor).tolist()
        done = walk(order, len(self.shares), losses, base, rate, factor, parity=parity)
        price = {group: _rise(done, group) / max(saves(cut({group: at})), 1.0) for group, at in done.chosen.items()}
        cheapest = sorted(price, key=lambda group: (price[group], self.names[group]))[: int(top * len(self.names))]
        for group in cheapest:
            name = self.names[group]
            goal = cut({group: done.chosen[group]})[name]
            if self.met(self.counts | {name: goal}):
                self.counts[name] = self._most(name, goal)
                break
            self.counts[name] = goal
        self.last = self.losses(self.counts).tolist()

    def _most(self, name: str, goal: int) -> int:
        """The largest count of a group that meets the budget, in steps of rounding."""
        kept = goal
        while kept < self.counts[name]:
            more = min(kept + self.budget.step(self.sizes[name]), self.counts[name])
            if not self.met(self.counts | {name: more}):
                break
            kept = more
        return kept

    def account(self) -> dict[str, Any]:
        return {
            "method": "channels/pagcp", "tasks": self.tasks, "losses_before": self.first, "losses_after": self.last,
            "evaluations": self.tried,
        }  # fmt: skip


def _rise(done: Walk, group: int) -> float:
    """How much the worst task's loss rose, relative to what it was."""
    return float((relative(done.losses[group], done.before[group]) - 1).max())
