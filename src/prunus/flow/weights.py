"""Weights: masks of every matrix of a model. One matrix of scores is held at a time, and none is ever written."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from prunus.core.budget import Budget
from prunus.core.edits import SetWeight
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Group
from prunus.core.registry import Method
from prunus.core.rng import Rng
from prunus.core.score import LazyValues, Score
from prunus.flow.calls import with_rng
from prunus.flow.signals import module_signals
from prunus.prunables.model import ModelPrunable, as_lines, in_storage
from prunus.select.within import keep_masks, pattern_of
from prunus.signals.modules import ModuleSignals


def score_weights(
    prunable: ModelPrunable,
    found: Method,
    *,
    signals: ModuleSignals | None = None,
    layers: str = "all",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Score:
    """Scores `[outputs, inputs * taps]` for each matrix, computed when asked for.

    Args:
        prunable: the model.
        found: a criterion over weights.
        signals: of one calibration pass.
        layers: `all`, or `blocks`: only matrices inside repeated blocks, as language-model pruners do (no embedding, no head).
        seed: for criteria that draw.
        options: the criterion's own.
    """
    function, options = found.load(), dict(options or {})
    groups = {group.name: group for group in chosen(prunable, layers)}

    def compute(name: str) -> np.ndarray:
        view = matrix(prunable, groups[name], signals)
        with torch.no_grad():
            values = function(view, **with_rng(function, options, Rng(seed, f"{found.id}/{name}")))
        return np.asarray(values.float() if values.dtype != torch.float64 else values)

    made = {"method": found.id, "options": options, "seed": seed, "layers": layers}
    sense = found.facts.get("sense", "keep")
    return Score("weights", LazyValues(tuple(groups), compute), sense, None, prunable.fingerprint(), made)


def chosen(prunable: ModelPrunable, layers: str) -> tuple[Group, ...]:
    """The matrices that take part."""
    groups = prunable.groups("weights")
    if layers == "all":
        return groups
    if layers != "blocks":
        raise BadInput(f"layers is all or blocks, not {layers!r}")
    inside = tuple(group for group in groups if any(part.isdigit() for part in group.name.split(".")))
    if not inside:
        raise BadInput("this model has no repeated blocks: use layers='all'")
    return inside


def matrix(prunable: ModelPrunable, group: Group, signals: ModuleSignals | None) -> SimpleNamespace:
    """A layer as criteria over weights see it: `weight [outputs, inputs * taps]`, and whatever was measured of its module."""
    weight = as_lines(prunable.model, group.name)
    module = group.name.rpartition(".")[0]
    fields: dict[str, Any] = {"name": group.name, "weight": weight}
    if signals is not None:
        stats = signals[module]
        for name in stats.fields:
            value = stats.per_output(name, weight.shape[0]) if name.startswith("input_") else stats.fields[name]
            fields[name] = value.reshape(-1) if name.startswith("input_") and value.shape[0] == 1 else value
    return SimpleNamespace(**fields)


def plan_weights(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    *,
    data: Any = None,
    step: Any = None,
    signals: ModuleSignals | None = None,
    general: Any = None,
    within: str | None = None,
    minimum: float = 0.05,
    tail: str = "refuse",
    layers: str = "all",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Which weights stay.

    Args:
        prunable: the model.
        found: a criterion or a solver over weights.
        budget: `50% weights`, `sparsity 90%`, `2:4`.
        data: calibration rows of role fit or val, where the criterion needs signals.
        step: adapter of a batch.
        signals: measured before, instead of `data`.
        general: rows of role fit that the signals a criterion calls general are measured on (d_pruner: the hessian); `data` by
            default.
        within: who competes with whom: all, group, output, cumulative, `n:m`; the criterion's own by default.
        minimum: within="all" only: least weights of a matrix, in percent of all weights.
        tail: N:M only: `refuse` inputs that fill no group, or leave them `dense`.
        layers: see `score_weights`.
        seed: for criteria that draw.
        options: the criterion's own.
    """
    if signals is None:
        signals = _measured(prunable, found, data, general, step, layers)
    if found.kind == "solver":
        return solve_weights(prunable, found, budget, signals=signals, within=within, layers=layers, options=options)
    score = score_weights(prunable, found, signals=signals, layers=layers, seed=seed, options=options)
    rule = within or str(found.facts.get("within", "group"))
    taps = {group.name: _taps(prunable, group) for group in chosen(prunable, layers)}
    masks = keep_masks(score, budget, within=rule, minimum=minimum, taps=taps, tail=tail)
    kept = {name: Kept.of_mask(mask) for name, mask in masks}
    made = {**score.provenance, "within": f"{budget.nm[0]}:{budget.nm[1]}" if budget.nm else rule}
    return _plan(prunable, budget, kept, (), made, signals)


def _measured(
    prunable: ModelPrunable, found: Method, data: Any, general: Any, step: Any, layers: str
) -> ModuleSignals | None:
    """One pass of the data over the matrices that take part, and one of the general rows where they are others."""
    modules = {group.name.rpartition(".")[0] for group in chosen(prunable, layers)}
    apart = set(found.facts.get("general", ())) if general is not None else set[str]()
    if general is not None and not apart:
        raise BadInput(f"{found.id} has one set of rows: leave general= out")
    own = module_signals(prunable, set(found.needs) - apart, data=data, step=step, what=found.id, modules=modules)
    if own is None or not apart:
        return own
    other = module_signals(prunable, apart, data=general, step=step, what=found.id, modules=modules)
    return own if other is None else own.merge(other)


def solve_weights(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    *,
    signals: ModuleSignals | None,
    within: str | None = None,
    layers: str = "all",
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Masks and new weights of every matrix, each solved alone from the statistics of its inputs.

    Args:
        prunable: the model.
        found: a solver over weights.
        budget: `50% weights`, `sparsity 90%`, `2:4`; a share holds in every matrix.
        signals: of one calibration pass.
        within: group, or `n:m`.
        layers: see `score_weights`.
        options: the solver's own.

    Raises:
        BudgetUnreachable: a matrix would keep nothing.
        NonFinite: weights or statistics of a matrix were not finite.
    """
    pattern = budget.nm or pattern_of(within or "group")
    if pattern is None and within not in (None, "group"):
        raise BadInput(f"{found.id} prunes matrix by matrix: within is group or N:M, not {within!r}")
    if pattern is None and not budget.term.relative:
        raise BadInput(f"{found.id} prunes matrix by matrix: give a share, as '50% weights', not {budget.short()!r}")
    function, options = found.load(), dict(options or {})
    kept: dict[str, Kept] = {}
    edits: list[SetWeight] = []
    for group in chosen(prunable, layers):
        view = matrix(prunable, group, signals)
        view.taps = _taps(prunable, group)
        count = pattern or group.size - budget.drop_count(group.size)
        if count == 0:
            raise BudgetUnreachable(
                f"{budget}: none of {group.size} weights of {group.name} would stay", nearest=f"1 of {group.size}"
            )
        mask, new = function(view, count, **options)
        if not np.isfinite(new).all():
            raise NonFinite(
                f"{found.id} gave NaN or infinity in {group.name}: check its weights and the calibration data"
            )
        kept[group.name] = Kept.of_mask(mask)
        edits.append(SetWeight(group.name, in_storage(prunable.model, group.name, new).numpy()))
    rule = ":".join(map(str, pattern or ("group",)))
    made = {"method": found.id, "options": options, "layers": layers, "within": rule}
    return _plan(prunable, budget, kept, tuple(edits), made, signals)


def _plan(
    prunable: ModelPrunable,
    budget: Budget,
    kept: dict[str, Kept],
    edits: tuple[SetWeight, ...],
    made: dict[str, Any],
    signals: ModuleSignals | None,
) -> Plan:
    if signals is not None:
        made = {**made, "signals": dict(signals.provenance)}
    dense = {"weights": float(sum(one.size for one in kept.values()))}
    planned = {"weights": float(sum(one.count for one in kept.values()))}
    return Plan("weights", kept, budget, planned, dense, edits, {}, (), made, prunable.fingerprint())


def _taps(prunable: ModelPrunable, group: Group) -> int:
    weight = prunable.model.get_parameter(group.name)
    return int(np.prod(weight.shape[2:])) if weight.dim() > 2 else 1
