"""Oracle pruning: the cut with the lowest loss before any retraining, by trying them all (or many) (Feng et al. 2024).

It is no method to prune with: the paper shows that on modern networks this loss says little about the network after
retraining. It is the sanity check of criteria, and `audit` says for one's own model whether it passes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.rng import Rng
from prunus.measure.predict import predict
from prunus.measure.rank_agreement import RankAgreement, rank_agreement
from prunus.prunables.model import ModelPrunable
from prunus.prunables.roles import require_role

Drops = Mapping[str, Sequence[int]]
MOST = 1000


@dataclass(frozen=True, eq=False)
class Audit:
    """What candidates were before and after retraining.

    Attributes:
        before: float64 `[n]`, mean loss over the fit rows right after the cut.
        loss, accuracy: float64 `[n]`, on the rows measured after retraining, means over its seeds.
        of_loss, of_accuracy: how the first orders the others.
    """

    before: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray

    @property
    def of_loss(self) -> RankAgreement:
        """Of `loss`: tau is positive where the first predicts the second."""
        return rank_agreement(self.before, self.loss, better="lower")

    @property
    def of_accuracy(self) -> RankAgreement:
        """Of `accuracy`: tau is negative where the first predicts the second."""
        return rank_agreement(self.before, self.accuracy, better="higher")


def combinations(
    sizes: Mapping[str, int], drop: Mapping[str, int], *, most: int = MOST, seed: int = 0
) -> list[dict[str, tuple[int, ...]]]:
    """Which units each candidate drops: every combination, in the order of itertools, or `most` distinct ones drawn at random.

    Args:
        sizes: units of each group.
        drop: group -> units that go.
        most: candidates.
        seed: of the draw.
    """
    for name, count in drop.items():
        if name not in sizes:
            raise UnknownName("group of channels", name, sizes)
        if not 0 < count < sizes[name]:
            raise BadInput(f"{name} has {sizes[name]} units: drop 1 to {sizes[name] - 1}, not {count}")
    if not drop:
        raise BadInput("name at least one group with the number of its units that go: drop={'conv1.weight:0': 8}")
    if math.prod(math.comb(sizes[name], count) for name, count in drop.items()) <= most:
        every = [itertools.combinations(range(sizes[name]), count) for name, count in drop.items()]
        return [dict(zip(drop, chosen)) for chosen in itertools.product(*every)]
    found: dict[tuple[tuple[int, ...], ...], None] = {}
    rng, number = Rng(seed, "oracle"), 0
    while len(found) < most:
        own = rng.child(str(number))
        chosen = (tuple(own.child(n).sample(np.arange(sizes[n]), c).tolist()) for n, c in drop.items())
        found.setdefault(tuple(chosen))
        number += 1
    return [dict(zip(drop, chosen)) for chosen in found]


def oracle_plans(prunable: ModelPrunable, dropped: Sequence[Drops]) -> list[Plan]:
    """A plan over channels for each candidate; groups that are not named stay whole.

    Args:
        prunable: the model.
        dropped: units of each group that go, as `combinations` gives them.
    """
    sizes = {group.name: group.size for group in prunable.groups("channels")}
    total, plans = sum(sizes.values()), list[Plan]()
    made = {"method": "channels/oracle", "example": prunable.describe()}
    for candidate in dropped:
        kept = {n: Kept.of_ids(np.setdiff1d(np.arange(size), candidate.get(n, ())), size) for n, size in sizes.items()}
        stays = sum(one.count for one in kept.values())
        planned = {"channels": float(stays)}
        plans.append(
            Plan(
                "channels",
                kept,
                Budget.parse(f"{100 * stays / total:.6g}% channels"),
                planned=planned,
                provenance=made,
                fingerprint=prunable.fingerprint(),
            )
        )
    return plans


def oracle_losses(
    model: nn.Module, plans: Sequence[Plan], data: Any, *, example: Any, step: Any = None, batch: int = 256
) -> np.ndarray:
    """Mean loss of each candidate without retraining, in evaluation mode and without augmentation: float64 `[n]`.

    Args:
        model: dense; not changed.
        plans: candidates.
        data: rows of role fit or val: the choice among candidates must not see test rows.
        example: what the model is called with.
        step: adapter of a batch.
        batch: rows at a time.
    """
    require_role(data, {"fit", "val"}, what="choosing among cuts")
    prunable = ModelPrunable(model, example, step)
    return np.array([float(predict(prunable.apply(plan), data, step=step, batch=batch).loss.mean()) for plan in plans])


def audit(
    model: nn.Module,
    plans: Sequence[Plan],
    *,
    fit: Any,
    test: Any,
    recover: Callable[[nn.Module, int], nn.Module],
    seeds: Sequence[int] = (0, 1, 2),
    example: Any = None,
    step: Any = None,
    batch: int = 256,
) -> Audit:
    """Cut, measure, retrain and measure again: does the loss before retraining predict what comes after it?

    Larger sweeps, resumable and on two processes: `prunus audit RECIPE`.

    Args:
        model: dense; not changed.
        plans: candidates of one budget; put those of criteria among random ones, which are mediocre all alike.
        fit: rows of role fit, on which the loss before retraining is taken.
        test: rows measured on after it.
        recover: `(model, seed) -> model`: the retraining; all candidates get the same seeds.
        seeds: of the retrainings, averaged.
        example: what the model is called with, where the plans do not say.
        step: adapter of a batch.
        batch: rows at a time.
    """
    require_role(fit, {"fit"}, what="the loss before retraining")
    prunable, rows = ModelPrunable(model, example, step), list[tuple[float, float, float]]()
    for plan in plans:
        cut = prunable.apply(plan)
        before = float(predict(cut, fit, step=step, batch=batch).loss.mean())
        ends = [predict(recover(prunable.apply(plan), seed), test, step=step, batch=batch) for seed in seeds]
        loss, right = (float(np.mean([getattr(end, name).mean() for end in ends])) for name in ("loss", "correct"))
        rows.append((before, loss, right))
    return Audit(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)
