"""Budgets in milliseconds: the model with the most MACs that runs in the time asked for, by six measurements at most.

Each measurement cuts the model for a budget in MACs and runs it in turns with the dense one. The first is of the smallest model the
floors allow, so that a time nobody can reach is refused with the least that can be. The others halve in on the MACs between a model
that is quick enough and one that is not: at the place where a straight line through both meets the time, kept off the ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.allocate.by_cost import Level, by_cost, least
from prunus.core.budget import Budget, Term
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.graph.cut import cut
from prunus.graph.trace import map_tensors, run, tensors_in
from prunus.measure.latency import in_turns
from prunus.prunables.model import ModelPrunable
from prunus.train.copies import copied

Clock = Callable[[], float]
Counts = dict[str, int]
MEASUREMENTS, REPEATS, WARMUP = 6, 11, 2
TOLERANCE = 0.01  # of the dense time
EDGE = 0.1  # share of what is left to search that a trial stays away from its ends


@dataclass
class Stopwatch:
    """Runs cuts of a model in turns with the dense one.

    Attributes:
        prunable: the dense model.
        budget: says batch, threads and dtype.
        keep: counts -> kept ids of each group.
        clock: seconds.
        dense_ms: median of the dense model in the first measurement. Later ones are told as their ratio times this, so that a
            machine that slows down or speeds up between them moves nothing.
        seen: (MACs, milliseconds) of every measurement.
    """

    prunable: ModelPrunable
    budget: Budget
    keep: Callable[[Mapping[str, int]], Mapping[str, np.ndarray]]
    clock: Clock = time.perf_counter
    dense_ms: float = 0.0
    seen: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def __post_init__(self) -> None:
        model, budget = self.prunable.model, self.budget
        if any(tensor.is_meta for tensor in model.parameters()):
            raise BadInput(
                "milliseconds can't be measured on the meta device: give macs or params, or load the weights"
            )
        kind = getattr(torch, budget.dtype) if budget.dtype else None
        self._dense: nn.Module = copied(model).to(kind) if kind is not None else model
        self._inputs = _batched(self.prunable.example, budget.batch, kind)

    def measure(self, counts: Mapping[str, int]) -> float:
        """Milliseconds of the cut model."""
        small = cut(self._dense, self.prunable.graph, self.keep(counts))
        seconds = in_turns(
            [self._dense, small],
            lambda model: run(model, self._inputs),
            REPEATS,
            self.budget.threads,
            WARMUP,
            self.clock,
        )
        dense, pruned = (1000 * float(np.median(row)) for row in seconds)
        if dense <= 0:
            raise BadInput("the model runs in no time that this machine's clock can tell: raise the batch")
        self.dense_ms = self.dense_ms or dense
        self.seen.append((self.prunable.count(counts)["macs"], pruned / dense * self.dense_ms))
        return self.seen[-1][1]

    def told(self) -> dict[str, Any]:
        """What was measured, for the plan."""
        trials = [{"macs": macs, "ms": ms} for macs, ms in self.seen]
        kind = self.budget.dtype or str(next(self._dense.parameters()).dtype).removeprefix("torch.")
        facts = {"batch": self.budget.batch, "threads": self.budget.threads, "dtype": kind, "repeats": REPEATS}
        return {**facts, "dense_ms": self.dense_ms, "measurements": trials}


def _batched(example: Any, batch: int, kind: torch.dtype | None) -> Any:
    """The example with `batch` rows: its first, repeated, in every tensor that has as many rows as the first tensor."""
    first = next(tensors_in(example), None)
    rows = first.shape[0] if first is not None and first.dim() else 0

    def one(tensor: Tensor) -> Tensor:
        if rows and tensor.dim() and tensor.shape[0] == rows:
            tensor = tensor[:1].repeat(batch, *[1] * (tensor.dim() - 1))
        return tensor.to(kind) if kind is not None and tensor.is_floating_point() else tensor

    return map_tensors(example, one)


def by_time(levels: Sequence[Level], budget: Budget, watch: Stopwatch, *, floor_share: float) -> tuple[Counts, float]:
    """(what each group keeps, its milliseconds).

    Args:
        levels: the groups.
        budget: one term in ms; others hold too.
        watch: measures.
        floor_share: least share of each group that stays.

    Raises:
        BudgetUnreachable: even the floors take longer; names how long.
    """
    rest = tuple(term for term in budget.terms if term.quantity != "ms")
    term = next(term for term in budget.terms if term.quantity == "ms")
    price, plain = watch.prunable.priced, replace(budget, tolerance=None)

    def counts_at(macs: float) -> Counts:
        terms = [t for t in rest if t.quantity != "macs"]
        return by_cost(
            levels, replace(plain, terms=(*terms, Term(macs, False, "macs"))), price, floor_share=floor_share
        )

    whole = {level.name: level.scores.size for level in levels}
    most = by_cost(levels, replace(plain, terms=rest), price, floor_share=floor_share) if rest else whole
    floors = least(levels, budget, floor_share=floor_share)
    least_ms = watch.measure(floors)
    limit = term.limit(watch.dense_ms)
    if least_ms > limit:
        raise BudgetUnreachable(
            f"{budget} can't be met: with every group at its floor the model takes {least_ms:.4g} ms, the dense one "
            f"{watch.dense_ms:.4g} ms",
            nearest=f"{least_ms:.4g} ms",
        )
    most_ms = watch.dense_ms if most == whole else watch.measure(most)
    if most_ms <= limit:
        return most, most_ms
    best = (floors, least_ms)
    low, high = (price(floors)["macs"], least_ms), (price(most)["macs"], most_ms)
    slack = TOLERANCE * watch.dense_ms if budget.tolerance is None else budget.tolerance * watch.dense_ms
    while len(watch.seen) < MEASUREMENTS and limit - best[1] > slack:
        line = (limit - slack / 2 - low[1]) / max(high[1] - low[1], 1e-12)
        counts = counts_at(low[0] + float(np.clip(line, EDGE, 1 - EDGE)) * (high[0] - low[0]))
        macs = price(counts)["macs"]
        if macs <= low[0]:
            break  # one step of one group lies between what is quick enough and what is not
        took = watch.measure(counts)
        if took <= limit:
            best, low = (counts, took), (macs, took)
        else:
            high = (macs, took)
    return best
