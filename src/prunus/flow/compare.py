"""`px.compare`: dense, pruned and controls on the same rows, with the same recovery, in one table with paired words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.results import Results
from prunus.flow.controls import random_like
from prunus.measure.gate import check
from prunus.prunables.model import ModelPrunable
from prunus.signals.modules import ModuleSignals

Recover = Callable[[nn.Module, int], nn.Module]


def compare(
    dense: nn.Module,
    plan: Plan,
    *,
    data: Any,
    recovered: nn.Module | None = None,
    recover: Recover | None = None,
    controls: int = 3,
    metrics: Sequence[str] = ("accuracy", "params"),
    signals: ModuleSignals | None = None,
    calibration: Any = None,
    step: Any = None,
    example: Any = None,
    require: str | None = None,
    **settings: Any,
) -> Results:
    """Measure the dense model, the pruned one, and `controls` random models with the plan's own counts.

    Args:
        dense: before the plan.
        plan: what was removed.
        data: rows of role test or val.
        recovered: the pruned model after recovery; without it the plan is applied as it is.
        recover: `(model, seed) -> model`, run on every control, so that they get what the method got. A plan that was
            recovered without it is compared with controls that were not, which the table says.
        controls: how many random models; 0 prints "no control was run".
        metrics: measures.
        signals, calibration: for controls of compensated plans: the signals the plan was made with, or rows to measure them on.
        step: adapter of a batch.
        example: what the model is called with, where the plan does not say.
        require: a gate, as `accuracy >= dense - 0.5`.
        **settings: of the measures (batch, window, tokens, ...).

    Raises:
        GateFailed: `require` does not hold for the pruned model.
    """
    if controls < 0:
        raise BadInput(f"controls counts random models: 0 or more, not {controls}")
    prunable = ModelPrunable(dense, example, step)
    pruned = recovered if recovered is not None else plan.apply(dense)
    facts = {"method": str(plan.provenance.get("method", "")), "budget": plan.asked.short()}

    def measured(model: nn.Module, what: str, **more: Any) -> Results:
        return measure(model, data, metrics, dense=dense, step=step, **settings).rows(what, **more)

    results = measured(dense, "dense") + measured(pruned, facts["method"] or "pruned", **facts)
    if signals is None and controls and calibration is not None:
        signals = _signals_of(plan, prunable, calibration, step)
    for seed in range(controls):
        control = random_like(plan, seed, prunable=prunable, signals=signals)
        model = control.apply(dense)
        if recover is not None:
            model = recover(model, seed)
        more = {"method": f"{plan.unit}/random", "budget": plan.asked.short(), "seed": seed, "control": True}
        results += measured(model, "random, same counts", **more)
    if require is not None:
        _gate(require, results)
    return results


def measure(
    model: nn.Module, data: Any, metrics: Sequence[str], *, dense: nn.Module | None = None, **settings: Any
) -> Any:
    """Several measures as one Measured.

    Args:
        model: to measure.
        data: rows of role test or val.
        metrics: names of measures: accuracy, perplexity, params, macs, latency, size.
        dense: for measures that compare with it.
        **settings: each goes to the measures that have it.
    """
    from prunus.flow.calls import asks_for
    from prunus.measure.measured import Measured

    values: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for name in metrics:
        function = registry.find(name, kind="measure").load()
        given = {key: value for key, value in settings.items() if asks_for(function, key)}
        if dense is not None and model is not dense and asks_for(function, "dense"):
            given["dense"] = dense
        found = function(model, data, **given)
        values.update(found)
        facts |= found.facts
    return Measured(values, **facts)


def _signals_of(plan: Plan, prunable: ModelPrunable, data: Any, step: Any) -> ModuleSignals | None:
    from prunus.flow.signals import module_signals

    methods = [registry.find(name, kind="compensator") for name in plan.provenance.get("compensate") or []]
    needs = {need for method in methods for need in method.needs}
    return module_signals(prunable, needs, data=data, step=step, what="the controls' compensation") if needs else None


def _gate(require: str, results: Results) -> None:
    dense = {row.metric: row.value for row in results.where(what="dense")}
    pruned = {row.metric: row.value for row in results if row.what != "dense" and not row.control}
    check(require, pruned, dense)
