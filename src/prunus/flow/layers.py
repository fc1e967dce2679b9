"""Layers: which blocks of a model's chains stay."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.edits import Bypass
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.plan import Kept, Plan
from prunus.core.registry import Method
from prunus.core.rng import Rng
from prunus.core.score import Score
from prunus.flow.calls import with_rng
from prunus.flow.signals import module_signals
from prunus.prunables.model import ModelPrunable
from prunus.signals.modules import ModuleSignals


def score_layers(
    prunable: ModelPrunable,
    method: str,
    *,
    signals: ModuleSignals | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Score:
    """A Score for every block of every chain. A block that can't be taken out scores what its signals say too, or 0 where
    none were measured of it (its output does not look like its input): it stays whatever its score."""
    found, options = registry.find(method, unit="layers", kind="criterion"), dict(options or {})
    function = found.load()
    values: dict[str, np.ndarray] = {}
    for chain in prunable.chains:
        scores: list[float] = []
        for child, removable in zip(chain.children, chain.removable):
            stats = signals[child].fields if signals is not None and child in signals else {}
            if found.needs and not stats and not removable:
                scores.append(0.0)
                continue
            if found.needs and not stats:
                raise BadInput(f"nothing was measured of block {child}: collect {', '.join(found.needs)}")
            given = with_rng(function, options, Rng(seed, f"{found.id}/{child}"))
            scores.append(float(function(SimpleNamespace(name=child, **stats), **given)))
        values[chain.path] = np.asarray(scores)
    if not values:
        raise BadInput("this model has no chain of like blocks: nothing to remove by layers")
    made = {"method": found.id, "options": options, "seed": seed}
    return Score("layers", values, found.facts.get("sense", "keep"), None, prunable.fingerprint(), made).check()


def plan_layers(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    *,
    data: Any = None,
    step: Any = None,
    signals: ModuleSignals | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    score: Score | None = None,
) -> Plan:
    """Which blocks stay: the highest scores over all chains, with one block of each and the protected ones.

    Args:
        prunable: the model.
        found: a criterion over layers.
        budget: `26 layers`, `80% layers`, `drop 6 layers`; its pin and ban name blocks as `model.layers.3`.
        data: calibration rows of role fit or val.
        step: adapter of a batch.
        signals: measured before, instead of `data`.
        seed: for criteria that draw.
        options: the criterion's own.
        score: made before.

    Raises:
        BudgetUnreachable: more blocks are protected than may stay.
    """
    prunable.require("score", "" if score is None else score.fingerprint)
    if signals is None and score is None:
        signals = module_signals(prunable, set(found.needs), data=data, step=step, what=found.id)
    if score is None:
        score = score_layers(prunable, found.id, signals=signals, seed=seed, options=options)
    blocks = [(c.path, i, name, c.removable[i]) for c in prunable.chains for i, name in enumerate(c.children)]
    order = np.concatenate([score.values[chain.path] for chain in prunable.chains])
    must = _protected(blocks, budget, found)
    must |= _last_of_each(blocks, order, must, budget)
    count = budget.count(len(blocks))
    if count < len(must):
        raise BudgetUnreachable(f"{budget} keeps {count} blocks, {len(must)} can't go", nearest=f"{len(must)} layers")
    banned = np.array([name in budget.ban for _, _, name, _ in blocks])
    rank = np.lexsort((np.arange(order.size), -order, banned))
    kept = must | set([int(at) for at in rank if int(at) not in must][: count - len(must)])
    groups: dict[str, Kept] = {}
    for chain in prunable.chains:
        ids = [i for at, (path, i, _, _) in enumerate(blocks) if path == chain.path and at in kept]
        groups[chain.path] = Kept.of_ids(np.asarray(ids, dtype=np.int64), len(chain.children))
    made = {**score.provenance, "example": prunable.describe()}
    total, dense = {"layers": float(count)}, {"layers": float(len(blocks))}
    return Plan(
        "layers", groups, budget, total, dense, bypasses(prunable, groups), {}, (), made, prunable.fingerprint()
    )


def _last_of_each(
    blocks: list[tuple[str, int, str, bool]], order: np.ndarray, must: set[int], budget: Budget
) -> set[int]:
    """The best block of every chain of which nothing must stay: a chain can't be empty."""
    best: set[int] = set()
    for path in {path for path, *_ in blocks}:
        own = [at for at, block in enumerate(blocks) if block[0] == path]
        if not must.intersection(own):
            best.add(max(own, key=lambda at: (blocks[at][2] not in budget.ban, order[at], -at)))
    return best


def bypasses(prunable: ModelPrunable, groups: Mapping[str, Kept]) -> tuple[Bypass, ...]:
    """The blocks, or the branches of blocks, that go, by name."""
    known = (*prunable.chains, *prunable.branches) if any(":" in name for name in groups) else prunable.chains
    return tuple(
        Bypass(chain.children[i])
        for chain in known
        if chain.path in groups
        for i in groups[chain.path].dropped().tolist()
    )


def _protected(blocks: list[tuple[str, int, str, bool]], budget: Budget, found: Method) -> set[int]:
    """Positions that must stay: what can't be removed, what is pinned, the first block where the method says so."""
    names = {name for _, _, name, _ in blocks}
    if unknown := sorted({*map(str, budget.pin), *map(str, budget.ban)} - names):
        raise BadInput(f"there is no block {unknown[0]!r}; blocks are called like {sorted(names)[0]!r}")
    first = found.facts.get("pin") == "first"
    return {
        at
        for at, (_, index, name, removable) in enumerate(blocks)
        if not removable or name in budget.pin or (first and index == 0 and name not in budget.ban)
    }
