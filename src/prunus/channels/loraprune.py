"""LoRAPrune: heads and neurons go while adapters train, judged by weights and the adapters' gradients alone (Zhang et al. 2023).

Removes: neurons of feed-forward parts and heads; with grouped queries key-value heads with all their queries, and query heads of
 every group alike.
Needs: rows of role fit. No gradient of a frozen weight is ever made.
Cost: steps * batch passes forward and back, and for each step one outputs x rank x inputs product for each matrix.
Departures: the released gradient of the merged weight from one step, B' A + B A' - B' A', the adapter's scale left out, is kept. The
 released masks never reach their target, because the last update is just under it; here the last one has the budget's counts. The
 share that goes is found from the budget, equal in all groups that may lose units. Gates shut where units are read too, so that
 the trained model is the cut one also where writers have biases. The released groups assume as many keys as queries.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.channels.structural_lora import Adapted, equal_shares, inner_groups, spared
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Slot
from prunus.core.registry import search
from prunus.train.copies import copied

MEMORY, TINY = 0.9, 1e-8  # of the moving average; added to a norm


@search(unit="channels", card="loraprune")
def loraprune(
    prunable: Any,
    budget: Budget,
    *,
    fit: Callable[..., Any],
    rng: Any,
    steps: int = 200,
    lr: float = 1e-4,
    batch: int = 16,
    rank: int = 8,
    alpha: float = 16.0,
    every: int = 10,
    wait: float = 0.1,
    rest: float = 0.1,
    spare_first: float = 0.1,
    spare_last: int = 1,
    floor_share: float = 0.1,
    clip: float = 1.0,
    weight_decay: float = 0.0,
) -> Plan:
    """Which heads and neurons go, and weights that were tuned while they went.

    Args:
        prunable: the model with its graph.
        budget: what may stay, in parameters, MACs or channels.
        fit: the training loop on fit rows.
        rng: the start of the adapters.
        steps: of training.
        lr: peak learning rate, falling by a cosine.
        batch: rows per step.
        rank: of the adapters on all matrices of heads and neurons.
        alpha: an adapter counts alpha / rank.
        every: steps between two cuts.
        wait: share of the steps before the first cut.
        rest: share of the steps after the last cut.
        spare_first: share of the blocks, the first ones, that stay whole.
        spare_last: last blocks that stay whole.
        floor_share: least share of a group that stays.
        clip: norm of the gradients; scores see them clipped.
        weight_decay: of the adapters.

    Returns:
        A Plan whose edits are the merged weights, in dense shape.

    Raises:
        BadInput: no group may lose units.
        BudgetUnreachable: what is spared and the floors keep more than the budget.
    """
    groups = inner_groups(prunable)
    whole = spared(groups, spare_first, spare_last)
    free = {name: group for name, group in groups.items() if name not in whole}
    if not free:
        raise BadInput(f"all {len(groups)} groups are in blocks that are spared: lower spare_first or spare_last")
    counts = equal_shares(free, prunable, budget, floor_share)
    if every < 1 or not 0 <= wait + rest <= 1:
        raise BadInput(f"every is 1 or more and wait + rest a share, not {every} and {wait} + {rest}")
    adapted = Adapted(copied(prunable.model), groups, "gate", rank=rank, scale=alpha / rank, rng=rng)
    scores = {name: np.zeros(group.size) for name, group in free.items()}
    kept = {name: np.ones(group.size, dtype=bool) for name, group in free.items()}
    last = min(math.ceil((1 - rest) * steps), steps - 1)

    done = itertools.count()

    def judge(engine: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        step = next(done)
        now = {name: group_score(adapted, name) for name in free}
        if all(np.isfinite(value).all() for value in now.values()):
            for name, value in now.items():
                scores[name] = moving_average(scores[name], value)
        if step == last or (step % every == 0 and step < last):
            for name, count in counts.items():
                goal = 1 - count / free[name].size
                share = sparsity(step, steps, goal, wait=wait, rest=rest)
                gone = free[name].size - count if step == last else math.floor(free[name].size * share + 1e-9)
                kept[name] = lowest_go(scores[name], kept[name], gone)
            adapted.close(kept)

    def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        engine = torch.optim.AdamW(parameters, lr, weight_decay=weight_decay)
        engine.register_step_pre_hook(judge)  # on the gradients of the weights as they are
        return engine

    fit(adapted.model, steps=steps, optimizer=optimizer, lr=lr, batch=batch, clip=clip)
    chosen = {name: Kept.of_ids(np.flatnonzero(mask), mask.size) for name, mask in kept.items()}
    planned, dense = prunable.priced(counts), prunable.priced({name: group.size for name, group in free.items()})
    return Plan("channels", chosen, budget, planned, dense, adapted.merged())


def group_score(adapted: Adapted, name: str) -> np.ndarray:
    """Sensitivity of every unit of a group on the gradients of now: each matrix's own, of length 1, summed. float64 `[size]`."""
    group = adapted.groups[name]
    total = np.zeros(group.size)
    for slot, part in adapted.slots(group):
        assert part.a.grad is not None and part.b.grad is not None
        weight = adapted.original(slot.parameter)
        lines = weight.T if part.stored else weight.flatten(1)
        found = sensitivity(lines.detach(), part.a.detach(), part.b.detach(), part.a.grad, part.b.grad, part.scale)
        total += normalised(per_unit(found.T if part.stored else found.view(weight.shape), slot)).cpu().numpy()
    return total


def sensitivity(weight: Tensor, a: Tensor, b: Tensor, grad_a: Tensor, grad_b: Tensor, scale: float) -> Tensor:
    """|estimated gradient * merged weight| of every entry.

    Args:
        weight: `[outputs, inputs]`, frozen; a: `[rank, inputs]`; b: `[outputs, rank]`; and the gradients of these two.
        scale: of the adapter.
    """
    gradient = grad_b @ a + b @ grad_a - grad_b @ grad_a
    return (gradient * (weight + scale * (b @ a))).abs()


def per_unit(values: Tensor, slot: Slot) -> Tensor:
    """Sum over what each unit owns of a matrix of stored shape, float64 `[size]`."""
    index = torch.from_numpy(slot.index).to(values.device)
    return values.double().movedim(slot.axis, 0).flatten(1).sum(1)[index].sum(1)


def normalised(vector: Tensor) -> Tensor:
    """The vector over its own length."""
    return vector / (vector.norm() + TINY)


def moving_average(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """What is remembered of a score after one more step."""
    return MEMORY * before + (1 - MEMORY) * now


def sparsity(step: int, total: int, goal: float, *, wait: float = 0.1, rest: float = 0.1, start: float = 0.0) -> float:
    """Share that is gone at a step: `start` through the wait, then up a cubic to the goal, which holds for the rest."""
    begin, end = wait * total, (1 - rest) * total
    if step < begin:
        return start
    if step >= end:
        return goal
    return goal + (start - goal) * (1 - (step - begin) / (end - begin)) ** 3


def lowest_go(scores: np.ndarray, kept: np.ndarray, gone: int) -> np.ndarray:
    """bool `[size]`: what is gone stays so, then the lowest scores go, of equal ones the first."""
    order = np.lexsort((np.arange(scores.size), np.where(kept, scores, -np.inf)))
    left = kept.copy()
    left[order[: max(gone, int((~kept).sum()))]] = False
    return left
