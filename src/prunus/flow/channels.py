"""Channels: from one calibration pass to a Plan that says which channels of a model stay, and which weights make up for the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from prunus.allocate.by_cost import Level, by_cost
from prunus.channels.normalise import Normalise
from prunus.channels.normalise import normalise as normalised
from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.edits import Edit
from prunus.core.errors import BadInput, NonFinite, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Group
from prunus.core.rng import Rng
from prunus.core.score import GroupScore, Score
from prunus.flow.calls import with_rng
from prunus.flow.milliseconds import Stopwatch, by_time
from prunus.flow.signals import module_signals
from prunus.graph.blocks import inside_one
from prunus.graph.makers import makers_of
from prunus.graph.members import bind, readers_of
from prunus.prunables.model import ModelPrunable
from prunus.signals.modules import ModuleSignals

SCOPES = ("global", "group", "isomorphic")


def score_channels(
    prunable: ModelPrunable,
    method: str,
    *,
    signals: ModuleSignals | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Score:
    """A Score for every unit of every group that may be cut.

    Args:
        prunable: the model with its graph.
        method: a criterion over channels.
        signals: what one calibration pass measured; must hold what the criterion needs.
        seed: for criteria that draw.
        options: the criterion's own.

    Raises:
        NonFinite: a group whose scores are NaN or infinite.
    """
    found, options = registry.find(method, unit="channels", kind="criterion"), dict(options or {})
    found.check_options(options)
    if prunable.is_meta and found.needs:
        raise BadInput(f"{found.id} reads weights, and a model on the meta device has none: load them, or use random")
    function = found.load()
    values: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for group in prunable.groups("channels"):
            given = with_rng(function, options, Rng(seed, f"{found.id}/{group.name}"))
            result = function(bind(group, prunable.model, signals), **given)
            values[group.name] = _checked(np.asarray(result, dtype=np.float64), group, found.id)
    made = {"method": found.id, "options": options, "seed": seed}
    return Score("channels", values, found.facts.get("sense", "keep"), None, prunable.fingerprint(), made)


def _checked(values: np.ndarray, group: Group, method: str) -> np.ndarray:
    if values.shape != (group.size,):
        raise BadInput(f"{method} gave scores of shape {values.shape} for group {group.name} of {group.size} units")
    if not np.isfinite(values).all():
        raise NonFinite(f"{method} gave NaN or infinity in group {group.name}: check the calibration data and weights")
    return values


def plan_channels(
    prunable: ModelPrunable,
    method: str,
    budget: str | Budget,
    *,
    data: Any = None,
    step: Any = None,
    signals: ModuleSignals | None = None,
    scope: str = "global",
    normalise: str | None = None,
    compensate: str | Sequence[str] | None = None,
    groups: str | None = None,
    floor_share: float = 0.1,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    score: Score | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Plan:
    """Which channels stay, and the edits that make up for the others.

    Args:
        prunable: the model with its graph.
        method: a criterion over channels.
        budget: over macs, params or channels, or in milliseconds: the cut model is then measured, six times at most, before compensation,
            and the plan tells each time. The example input with one of its rows repeated is the batch.
        data: calibration rows of role fit; needed where the criterion or a compensator needs signals.
        step: adapter of a batch.
        signals: signals measured before, instead of `data`.
        scope: what is ranked together: all groups, each group alone (equal shares), or groups of the same operators.
        normalise: makes groups comparable; the criterion's own rule by default.
        compensate: compensators in order; the criterion's own by default, "none" for none.
        groups: which groups may lose units: all, or inner (those inside one block: no residual stream, no head dimension); the
            criterion's own by default.
        floor_share: least share of each group that stays.
        seed: for criteria that draw.
        options: the criterion's own.
        score: made before, instead of asking the criterion again.
        clock: seconds, for budgets in milliseconds.

    Raises:
        BudgetUnreachable: the frozen part and the floors cost more than the budget.
    """
    asked = Budget.parse(budget)
    prunable.require("score", "" if score is None else score.fingerprint)
    found = registry.find(method, unit="channels", kind="criterion")
    compensators = _compensators(compensate, found)
    if signals is None:
        readers = compensators if score is not None else [found, *compensators]
        needs = {need for one in readers for need in one.needs}
        signals = module_signals(prunable, needs, data=data, step=step, what=found.id)
    if score is None:
        score = score_channels(prunable, method, signals=signals, seed=seed, options=options)
    rule = cast("Normalise", normalise or found.facts.get("normalise", "none"))  # `normalised` refuses other words
    groups = groups or str(found.facts.get("groups", "all"))
    touched = touchable(prunable, groups)
    levels = _levels(score, scope, rule, touched)
    dense = prunable.priced({name: group.size for name, group in touched.items()})

    def chosen(counts: Mapping[str, int]) -> dict[str, Kept]:
        return {name: _best(score.group(name), count) for name, count in counts.items()}

    timing: dict[str, Any] = {}
    if any(term.quantity == "ms" for term in asked.terms):
        watch = Stopwatch(
            prunable, asked, lambda counts: {name: one.index() for name, one in chosen(counts).items()}, clock
        )
        counts, took = by_time(levels, asked, watch, floor_share=floor_share)
        planned, dense = {**prunable.priced(counts), "ms": took}, {**dense, "ms": watch.dense_ms}
        timing = {"timing": watch.told()}
    else:
        counts = by_cost(levels, asked, prunable.priced, floor_share=floor_share)
        planned = prunable.priced(counts)
    kept = chosen(counts)
    edits = compensated(prunable, kept, compensators, signals)
    made = {
        **score.provenance,
        "example": prunable.describe(),
        "scope": scope,
        "groups": groups,
        "normalise": rule,
        "compensate": [one.id for one in compensators],
        **timing,
    }
    if signals is not None:
        made["signals"] = dict(signals.provenance)
    return Plan("channels", kept, asked, planned, dense, edits, {}, (), made, prunable.fingerprint())


def _compensators(asked: str | Sequence[str] | None, found: registry.Method) -> list[registry.Method]:
    names = [asked] if isinstance(asked, str) else list(asked or [])
    if asked is None:
        names = [str(found.facts["compensate"])] if found.facts.get("compensate") else []
    return [registry.find(name, kind="compensator") for name in names if name != "none"]


def touchable(prunable: ModelPrunable, which: str) -> dict[str, Group]:
    """The groups that may lose units.

    Args:
        prunable: the model.
        which: all, or inner: groups whose parameters all lie in one numbered block, head dimensions left out. In a ResNet these are
            the channels between the convolutions of a block, in a transformer the neurons and heads.
    """
    groups = {group.name: group for group in prunable.groups("channels")}
    if which == "all":
        return groups
    if which != "inner":
        raise UnknownName("choice of groups", which, ("all", "inner"))
    inner = inside_one(groups)
    if not inner:
        raise BadInput("no group lies inside one block of this model: use groups='all'")
    return inner


def _levels(score: Score, scope: str, rule: Normalise, groups: dict[str, Group]) -> list[Level]:
    """The groups as the allocator sees them: what is ranked together has comparable scores."""
    if scope not in SCOPES:
        raise UnknownName("scope", scope, SCOPES)
    values = normalised({name: score.values[name] for name in groups}, rule)
    if scope != "global":
        tags = {name: name if scope == "group" else (group.tag or name) for name, group in groups.items()}
        values = normalised(values, "isomorphic", tags)
    return [Level(name, values[name], groups[name].tag) for name in groups]


def _best(group: GroupScore, count: int) -> Kept:
    return Kept.of_ids(group.ids[group.keep_order()[:count]], group.ids.size)


def compensated(
    prunable: ModelPrunable,
    kept: dict[str, Kept],
    compensators: list[registry.Method],
    signals: ModuleSignals | None,
) -> tuple[Edit, ...]:
    """Each reader of something that goes is compensated once, for all its inputs that go together."""
    if not compensators:
        return ()
    edits: list[Edit] = []
    keep = {name: one.index() for name, one in kept.items()}
    with_makers = any("filters" in compensator.needs for compensator in compensators)
    for reader, dropped in readers_of(prunable.graph, prunable.model, keep, signals):
        if with_makers:
            reader = replace(reader, **vars(makers_of(prunable.graph, prunable.model, reader.parameter)))
        for compensator in compensators:
            edits += compensator.load()(reader, dropped)
    return tuple(edits)
