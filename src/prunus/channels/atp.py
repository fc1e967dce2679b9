"""ATP: a small network decides which heads and neurons go while adapters train, in one stage (Lu et al. 2024).

Removes: neurons of feed-forward parts and heads; with grouped queries key-value heads with all their queries, and query heads of
 every group alike.
Needs: rows of role fit, best of the domain that the model is for.
Cost: steps * batch passes forward and back; the deciding network is a two-layer GRU of width 64 over the groups.
Departures: no code was found. Not verified against the paper: the GRU, bias 3 and temperature 0.4 of the decisions, weight 6 of the
 budget's term, turns of deciding and tuning that alternate for the first half of the steps. Then the decisions are settled: the
 lowest logits go until the budget is met exactly. The group lasso is taken by its proximal step, whose strength rises in a straight
 line; moments of slices that became zero are reset. What is left of removed slices is told in the plan's provenance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.allocate.by_cost import Level, by_cost
from prunus.channels.structural_lora import Adapted, equal_shares, inner_groups
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Slot
from prunus.core.registry import search
from prunus.core.rng import torch_fork
from prunus.train.adapters import Adapter
from prunus.train.copies import copied
from prunus.train.decisions import Generator, budget_gap, decide, shrunk, with_one
from prunus.train.step import Step, StepFn, infer_step


@search(unit="channels", card="atp")
def atp(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    rng: Any,
    steps: int = 200,
    lr: float = 1e-4,
    decide_lr: float = 1e-3,
    batch: int = 16,
    rank: int = 8,
    alpha: float = 16.0,
    tau: float = 0.4,
    bias: float = 3.0,
    pull: float = 6.0,
    lasso: float = 10.0,
    deciding: float = 0.5,
    floor_share: float = 0.1,
) -> Plan:
    """Which heads and neurons go, and weights that were tuned while it was decided.

    Args:
        prunable: the model with its graph.
        budget: what may stay, in parameters, MACs or channels.
        fit: the training loop on fit rows.
        rng: noise, and the start of adapters and decisions.
        steps: of training, turns of deciding included.
        lr: peak learning rate of the adapters, falling by a cosine.
        decide_lr: of the deciding network, falling alike.
        batch: rows per step.
        rank: of the adapters on all matrices of heads and neurons.
        alpha: an adapter counts alpha / rank.
        tau: temperature of the decisions.
        bias: of the decisions at the start, towards keeping.
        pull: weight of the budget's term.
        lasso: strength of the group lasso at the end; a step shortens a slice by lr times it.
        deciding: share of the steps in which turns alternate.
        floor_share: least share of a group that stays.

    Returns:
        A Plan whose edits are the merged weights, in dense shape.

    Raises:
        BudgetUnreachable: the floors keep more than the budget.
        BadInput: a share that is none.
    """
    if not 0 < deciding <= 1 or tau <= 0:
        raise BadInput(f"deciding is a share of the steps above 0, tau above 0, not {deciding} and {tau}")
    groups = inner_groups(prunable)
    counts = equal_shares(groups, prunable, budget, floor_share)
    goal = sum(groups[name].cost * count for name, count in counts.items())
    adapted = Adapted(copied(prunable.model), groups, "kept_path", rank=rank, scale=alpha / rank, rng=rng)
    with torch_fork(0, "layers"):  # torch draws first weights of its own, which are drawn anew
        generator = Generator({name: group.size for name, group in groups.items()}, rng.child("generator").torch())
    adapted.model.add_module("decisions", generator)

    def settled(logits: dict[str, Tensor]) -> dict[str, np.ndarray]:
        values = {name: value.detach().double().cpu().numpy() for name, value in logits.items()}
        levels = [Level(name, value, groups[name].tag) for name, value in values.items()]
        kept = by_cost(levels, budget, prunable.priced, floor_share=floor_share)
        first = {name: np.lexsort((np.arange(value.size), -value))[: kept[name]] for name, value in values.items()}
        return {name: np.isin(np.arange(values[name].size), place) for name, place in first.items()}

    turns = Turns(
        adapted,
        generator,
        goal,
        settled,
        until=max(int(steps * deciding), 1),
        steps=steps,
        noise=rng.child("noise").torch(),
    )
    turns.tau, turns.bias, turns.pull, turns.lasso, turns.own = tau, bias, pull, lasso, prunable.step

    def optimizer(_: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        sides = [
            {"params": turns.tuned, "lr": lr, "weight_decay": 0.0},
            {"params": list(generator.parameters()), "lr": decide_lr, "weight_decay": 0.05},
        ]
        engine = torch.optim.AdamW(sides)
        engine.register_step_pre_hook(turns.before)
        engine.register_step_post_hook(turns.after)
        return engine

    fit(adapted.model, steps=steps, optimizer=optimizer, batch=batch, step=turns)
    kept = turns.final if turns.final is not None else settled(generator())
    left = float(lasso_norm(adapted, {name: torch.from_numpy(mask) for name, mask in kept.items()}).detach())
    turns.open({name: torch.from_numpy(mask).float() for name, mask in kept.items()})
    del adapted.model.decisions
    chosen = {name: Kept.of_ids(np.flatnonzero(mask), mask.size) for name, mask in kept.items()}
    planned = prunable.priced({name: int(mask.sum()) for name, mask in kept.items()})
    dense = prunable.priced({name: group.size for name, group in groups.items()})
    plan = Plan("channels", chosen, budget, planned, dense, adapted.merged())
    return replace(plan, provenance={"removed_adapter_norm": left, "flips_per_turn": turns.flips})


class Turns:
    """A step that decides or tunes, in turns; hooks of the optimizer that leave the other side alone, and shrink what goes.

    Args:
        adapted: the model with its adapters.
        generator: of the decisions.
        goal: parameters of units that should stay.
        settled: logits -> kept masks that meet the budget.
        until: steps after which the decisions are settled.
        steps: in all.
        noise: of the decisions.
    """

    def __init__(
        self, adapted: Adapted, generator: Generator, goal: float, settled: Callable[[dict[str, Tensor]], dict[str, np.ndarray]],
        *, until: int, steps: int, noise: torch.Generator,
    ) -> None:  # fmt: skip
        self.adapted, self.generator, self.goal, self.settled = adapted, generator, goal, settled
        self.until, self.steps, self.noise = until, steps, noise
        self.tau, self.bias, self.pull, self.lasso = 0.4, 3.0, 6.0, 10.0
        self.own: StepFn | None = None
        self.done = 0
        self.final: dict[str, np.ndarray] | None = None
        self.now: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}
        self.changed, self.turned = 0, 0
        self.tuned = [value for part in adapted.parts.values() for value in (part.a, part.b)]

    @property
    def decides(self) -> bool:
        """Whether this turn is the generator's."""
        return self.done < self.until and self.done % 2 == 0

    @property
    def flips(self) -> float:
        """Mean number of units whose decision without noise changed from one turn to the next."""
        return self.changed / max(self.turned - 1, 1)

    def __call__(self, model: nn.Module, batch: Any) -> Step:
        """One batch: the task's loss, and in the generator's turns the budget's."""
        self.own = self.own or infer_step(batch)
        if self.done >= self.until:
            if self.final is None:
                self.final = self.settled(self.generator())
            self.now = {name: torch.from_numpy(mask).float() for name, mask in self.final.items()}
        else:
            self._decide()
        self.open(self.now)
        found = self.own(model, batch)
        if not self.decides or found.loss is None:
            return found
        kept = sum((self.adapted.groups[name].cost * one.sum() for name, one in self.now.items()), torch.zeros(()))
        return replace(found, loss=found.loss + self.pull * budget_gap(kept, self.goal))

    def _decide(self) -> None:
        logits = self.generator()
        plain = {name: decide(value, None, tau=self.tau, bias=self.bias)[1].detach() for name, value in logits.items()}
        if self.decides:
            self.changed += sum(int((plain[n] != self.last[n]).sum()) for n in plain) if self.turned else 0
            self.turned, self.last = self.turned + 1, plain
            draws = {
                name: torch.rand(value.shape, generator=self.noise).clamp(1e-6, 1 - 1e-6)
                for name, value in logits.items()
            }
            plain = {
                name: decide(value, draws[name], tau=self.tau, bias=self.bias)[1] for name, value in logits.items()
            }
        self.now = {name: with_one(one, logits[name]) for name, one in plain.items()}

    def open(self, decisions: dict[str, Tensor]) -> None:
        """Set the gates of every adapted matrix, on the side where units are made or read."""
        for part in self.adapted.parts.values():
            part.opening = None
        for name, one in decisions.items():
            for slot, part in self.adapted.slots(self.adapted.groups[name]):
                gate = gate_of(slot, one, part)
                part.opening = gate if part.opening is None else part.opening * gate

    def before(self, engine: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """The side that is not on turn has no gradient, so the optimizer leaves it and its moments alone."""
        for parameter in self.tuned if self.decides else self.generator.parameters():
            parameter.grad = None

    @torch.no_grad()
    def after(self, engine: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """After a tuning turn, slices of adapters that belong to units that go are made shorter."""
        if not self.decides:
            strength = engine.param_groups[0]["lr"] * self.lasso * (self.done + 1) / self.steps
            kept = {name: one.detach() > 0.5 for name, one in self.now.items()}
            for value, at in removed_slices(self.adapted, kept):
                value[at] = shrunk(value[at], strength)
                without_moments(engine, value, at)
        self.done += 1


def without_moments(engine: torch.optim.Optimizer, value: nn.Parameter, at: Any) -> None:
    """Zero the optimizer's moments where a slice became zero: they would blow it up again."""
    zero = value[at] == 0
    for moment in engine.state.get(value, {}).values():
        if isinstance(moment, Tensor) and moment.shape == value.shape:
            moment[at] = moment[at].masked_fill(zero, 0.0)


def gate_of(slot: Slot, decision: Tensor, part: Adapter) -> Tensor:
    """A decision `[size]` as factors along one axis of a stored matrix; positions of no unit stay 1."""
    size = part.mask.shape[slot.axis]
    gate = torch.ones(size, dtype=decision.dtype, device=decision.device)
    index = torch.from_numpy(slot.index).reshape(-1)
    gate = gate.index_put((index,), decision.repeat_interleave(slot.index.shape[1]))
    return gate.view([size if axis == slot.axis else 1 for axis in range(part.mask.dim())])


def slices_of(slot: Slot, part: Adapter, index: Tensor) -> tuple[nn.Parameter, Any]:
    """Where units are in an adapter: rows of b that make them, columns of a that read them.

    Args:
        index: `[units, per_unit]`, positions along the slot's axis.
    """
    if (slot.axis == 1) == part.stored:  # the side of the outputs
        return part.b, index
    taps = part.a.shape[1] // part.mask.shape[slot.axis]
    columns = (index[:, :, None] * taps + torch.arange(taps)).flatten(1)
    return part.a, (torch.arange(part.a.shape[0])[None, :, None], columns[:, None, :])


def lasso_norm(adapted: Adapted, kept: dict[str, Tensor]) -> Tensor:
    """Sum of the norms of all slices of adapters that belong to units that go: what deleting them changes.

    Args:
        adapted: the model with its adapters.
        kept: group -> bool `[size]`, True stays.
    """
    norms = [value[at].flatten(1).norm(dim=1).sum() for value, at in removed_slices(adapted, kept)]
    return torch.stack(norms).sum() if norms else torch.zeros(())


def removed_slices(adapted: Adapted, kept: dict[str, Tensor]) -> Iterator[tuple[nn.Parameter, Any]]:
    """(a or b, index of `[slices, ...]` in it) of every matrix that units that go write to or read from."""
    for name, one in kept.items():
        for slot, part in adapted.slots(adapted.groups[name]):
            index = torch.from_numpy(slot.index)[~one.cpu().bool()]
            if index.numel():
                yield slices_of(slot, part, index)
