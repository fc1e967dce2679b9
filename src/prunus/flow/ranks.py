"""Ranks: which singular parts of each weight stay; two thinner layers take the place of a layer that loses some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from prunus.allocate.by_cost import Level, by_cost
from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.edits import Factor
from prunus.core.errors import BadInput, NonFinite, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.registry import Method
from prunus.core.rng import Rng
from prunus.flow.calls import with_rng
from prunus.flow.signals import module_signals
from prunus.graph.blocks import block_of
from prunus.maths.rank_parts import Components
from prunus.prunables.model import ModelPrunable
from prunus.prunables.ranks import RankMatrix
from prunus.signals.modules import ModuleSignals

SCOPES = ("global", "group")


class Parts:
    """The parts of every weight under one method, made anew each time they are asked for: together they are larger than the model."""

    def __init__(
        self,
        prunable: ModelPrunable,
        found: Method,
        *,
        signals: ModuleSignals | None = None,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        found.check_options(dict(options or {}))
        self._model, self._found, self._function = prunable.model, found, found.load()
        self._signals, self._seed, self._options = signals, seed, dict(options or {})

    def of(self, one: RankMatrix) -> Components:
        """Parts of a weight. Raises `NonFinite` or `BadInput` naming it."""
        fields: dict[str, Any] = {"name": one.name, "weight": one.read(self._model), "scheme": one.scheme}
        if self._signals is not None:
            if one.module not in self._signals:
                raise BadInput(
                    f"nothing was measured of {one.module}: is it called in a forward pass? pin it to leave it dense"
                )
            fields |= self._signals[one.module].fields
        given = with_rng(self._function, self._options, Rng(self._seed, f"{self._found.id}/{one.name}"))
        with torch.no_grad():
            parts = self._function(SimpleNamespace(**fields), **given)
        if not all(torch.isfinite(value).all() for value in (parts.left, parts.right, parts.scores)):
            raise NonFinite(
                f"{self._found.id} gave NaN or infinity in {one.name}: check its weights and the calibration data"
            )
        return parts


def plan_ranks(
    prunable: ModelPrunable,
    found: Method,
    budget: Budget,
    *,
    data: Any = None,
    step: Any = None,
    signals: ModuleSignals | None = None,
    scheme: str = "channel",
    scope: str | None = None,
    layers: str = "all",
    update: bool = False,
    floor_share: float = 0.0,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Which parts stay, with the factors.

    Args:
        prunable: the model.
        found: a solver over ranks.
        budget: `60% params`, `50% macs`, `40% ranks`; its pin names weights that stay dense.
        data: calibration rows of role fit or val, where the method needs signals or the update does.
        step: adapter of a batch.
        signals: measured before, instead of `data`.
        scheme: how the kernels of convolutions are read: channel, spatial or decouple (`maths.rank_parts`).
        scope: global: one threshold for all weights; group: the same share of the parameters of each; the method's own by default.
        layers: all, or blocks: only weights inside repeated blocks (no embedding, no head).
        update: refit the second layers to the inputs that the cut model gives the first ones, by least squares; needs `data`.
        floor_share: least share of the rank of each weight that stays.
        seed: for methods that draw.
        options: the method's own.

    Raises:
        BadInput: no weight can be factored.
        BudgetUnreachable: all weights at their floors cost more than the budget.
    """
    matrices = chosen(prunable, scheme, layers, budget)
    scope = scope or str(found.facts.get("scope", "global"))
    if scope not in SCOPES:
        raise UnknownName("scope of ranks", scope, SCOPES)
    if signals is None:
        modules = {one.module for one in matrices}
        signals = module_signals(prunable, set(found.needs), data=data, step=step, what=found.id, modules=modules)
    parts = Parts(prunable, found, signals=signals, seed=seed, options=options)
    prices = prunable.rank_prices(scheme, [one.name for one in matrices])
    refuse_unpriced(budget, prunable)
    levels = [Level(one.name, _rungs(one, parts, scope), _tag(one)) for one in matrices]
    counts = prices.stays(by_cost(levels, budget, prices, floor_share=floor_share))
    kept: dict[str, Kept] = {}
    edits: list[Factor] = []
    for one in matrices:
        ids = np.arange(one.size)
        if counts[one.name] < one.size:
            made = parts.of(one)
            order = np.lexsort((ids, -made.scores.double().numpy()))
            ids = np.sort(order[: counts[one.name]])
            edits.append(one.edit(made, ids))
        kept[one.name] = Kept.of_ids(ids, one.size)
    told: dict[str, Any] = {
        "method": found.id,
        "options": dict(options or {}),
        "seed": seed,
        "scheme": scheme,
        "scope": scope,
    }
    if prunable.example is not None:
        told["example"] = prunable.describe()
    if signals is not None:
        told["signals"] = dict(signals.provenance)
    planned, dense = prices(counts), prices({})
    plan = Plan("ranks", kept, budget, planned, dense, tuple(edits), {}, (), told, prunable.fingerprint())
    return updated(prunable, plan, data, step) if update else plan


def chosen(prunable: ModelPrunable, scheme: str, layers: str, budget: Budget) -> tuple[RankMatrix, ...]:
    """The weights that take part: those of the layers asked for, without the pinned ones."""
    found = prunable.rank_matrices(scheme)
    if layers not in ("all", "blocks"):
        raise UnknownName("choice of layers", layers, ("all", "blocks"))
    if layers == "blocks":
        found = tuple(one for one in found if block_of(one.name))
    names = {one.name for one in found}
    for name in budget.pin:
        if str(name) not in names:
            raise UnknownName("weight to pin", str(name), names)
    found = tuple(one for one in found if one.name not in budget.pin)
    if not found:
        raise BadInput(
            "this model has no weight that two thinner layers could replace: linear layers and convolutions are"
        )
    return found


def refuse_unpriced(budget: Budget, prunable: ModelPrunable) -> None:
    """Refuse quantities that ranks are not counted in."""
    known = ("params", "macs", "ranks")
    for term in budget.terms:
        if term.quantity not in known:
            raise UnknownName("quantity of a budget over ranks", term.quantity, known)
        if term.quantity == "macs" and prunable.example is None:
            raise BadInput("MACs are counted on an example input: give example= or data=")


def _tag(one: RankMatrix) -> str:
    return f"{one.scheme} {one.form}"


def _rungs(one: RankMatrix, parts: Parts, scope: str) -> np.ndarray:
    """What the parts of a weight are worth beside those of others: their scores, or their place where every weight loses alike."""
    if scope == "global":
        return parts.of(one).scores.double().numpy()
    batch, p, q = one.form
    return -np.arange(1, one.size + 1) * one.per_rank / (batch * p * q)


def updated(prunable: ModelPrunable, plan: Plan, data: Any, step: Any) -> Plan:
    """The plan with second layers refitted to what the cut model gives the first ones: U = W H V^T (V H V^T)^-1.

    V are the first layers, H the second moments of their inputs in the cut model.
    """
    if data is None:
        raise BadInput("update=True measures the cut model: pass data= (rows of role fit)")
    small = ModelPrunable(prunable.apply(plan), prunable.example, prunable.step)
    by_module = {one.module: one for one in prunable.rank_matrices(str(plan.provenance["scheme"]))}
    edits = [edit for edit in plan.edits if isinstance(edit, Factor)]
    if any(edit.scheme != "channel" or by_module[edit.module].groups > 1 for edit in edits):
        raise BadInput(
            "update=True knows the inputs of whole kernels: give scheme='channel', and pin grouped convolutions"
        )
    firsts = {f"{edit.module}.0" for edit in edits}
    signals = module_signals(small, {"hessian"}, data=data, step=step, what="the update", modules=firsts)
    assert signals is not None
    new: list[Factor] = []
    for edit in edits:
        moments = signals[f"{edit.module}.0"].fields["hessian"].double()
        weight, v = by_module[edit.module].read(prunable.model)[0].double(), torch.from_numpy(edit.v).double()
        mixed = v @ moments
        u = torch.linalg.lstsq(mixed @ v.T, mixed @ weight.T, driver="gelsd").solution.T
        new.append(replace(edit, u=u.numpy().astype(edit.u.dtype)))
    return replace(plan, edits=tuple(new), provenance={**plan.provenance, "update": True})


def factored(
    prunable: ModelPrunable, groups: Mapping[str, Kept], scheme: str, method: str = "ranks/svd"
) -> tuple[Factor, ...]:
    """Factors of the named parts of a method: for the controls of a plan."""
    parts = Parts(prunable, registry.find(method))
    return tuple(
        one.edit(parts.of(one), groups[one.name].index())
        for one in prunable.rank_matrices(scheme)
        if one.name in groups and groups[one.name].count < one.size
    )
