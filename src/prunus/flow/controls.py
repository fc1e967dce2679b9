"""Controls: the same counts per group with random units, and the same compensation; what every result stands beside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.core.plan import Kept, Plan
from prunus.core.rng import Rng
from prunus.flow.channels import compensated
from prunus.flow.layers import bypasses
from prunus.flow.ranks import factored
from prunus.flow.weights import compensated_weights
from prunus.prunables import stream
from prunus.prunables.model import ModelPrunable, shares
from prunus.signals.modules import ModuleSignals


def random_like(plan: Plan, seed: int, *, prunable: Any = None, signals: ModuleSignals | None = None) -> Plan:
    """A plan that keeps as many units of every group as `plan` does, drawn at random among those it may touch.

    Args:
        plan: over rows, channels, weights, layers, ranks or tokens.
        seed: of the draw.
        prunable: the model, where the plan has compensators to run again or blocks that can't go.
        signals: what its compensators read.

    Returns:
        A plan with the method `random` in its provenance.
    """
    if plan.unit == "tokens":  # a policy: its ids are ranks, so the rule is what is drawn
        return stream.random_like(plan, seed)
    if shares(plan):
        raise BadInput(
            "no weight goes under this plan, so none can be drawn: lay a plan of weights/random with its budget beside it"
        )
    rng = Rng(seed, f"control/{plan.unit}")
    if plan.unit == "layers" and isinstance(prunable, ModelPrunable):
        prunable.graph_for(plan)
    groups = {name: _drawn(kept, rng.child(name), _fixed(prunable, plan, name)) for name, kept in plan.groups.items()}
    made = {**plan.provenance, "method": f"{plan.unit}/random", "seed": seed, "like": plan.provenance.get("method", "")}
    control = replace(plan, groups=groups, edits=(), reasons={}, reason_names=(), weights={}, provenance=made)
    names = plan.provenance.get("compensate") or []
    if plan.unit in ("channels", "weights") and names and not isinstance(prunable, ModelPrunable):
        raise BadInput("this plan was compensated: give its control the model and the signals too")
    if plan.unit == "weights" and names and isinstance(prunable, ModelPrunable):
        control = replace(control, edits=compensated_weights(prunable, groups, plan, signals))
    if plan.unit == "channels" and names and isinstance(prunable, ModelPrunable):
        prunable.graph_for(plan)
        methods = [registry.find(name, kind="compensator") for name in names]
        control = replace(control, edits=compensated(prunable, groups, methods, signals))
    if plan.unit == "layers" and isinstance(prunable, ModelPrunable):
        control = replace(control, edits=bypasses(prunable, groups))
    if plan.unit == "ranks":
        if not isinstance(prunable, ModelPrunable):
            raise BadInput("the control of a plan over ranks is made of the dense weights: give it the model")
        control = replace(control, edits=factored(prunable, groups, str(plan.provenance["scheme"])))
    return control


def _fixed(prunable: Any, plan: Plan, name: str) -> np.ndarray:
    """Units that no method could drop."""
    if plan.unit == "layers" and isinstance(prunable, ModelPrunable):
        return np.union1d(prunable.fixed.get(name, np.array([], dtype=np.int64)), [0])
    return np.array([], dtype=np.int64)


def _drawn(kept: Kept, rng: Rng, fixed: np.ndarray) -> Kept:
    ids = np.arange(kept.size) if kept.all_ids is None else kept.all_ids
    free = ids[~np.isin(ids, fixed)]
    stays = np.intersect1d(ids, fixed)
    count = kept.count - stays.size
    if count < 0:
        raise BadInput(f"{stays.size} units can't go, the plan keeps {kept.count}")
    chosen = np.concatenate([stays, free[rng.sample(free, count)]])
    if kept.bits is not None:
        mask = np.zeros(kept.size, dtype=bool)
        mask[chosen] = True
        return Kept.of_mask(mask)
    return Kept.of_ids(chosen, kept.size, kept.all_ids)
