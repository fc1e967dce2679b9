"""`px.compare`: dense, pruned and controls on the same rows, with the same recovery, in one table with paired words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from prunus.core import registry
from prunus.core.arms import arms
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.results import Results
from prunus.flow.calls import asks_for
from prunus.flow.controls import random_like
from prunus.flow.signals import module_signals
from prunus.measure.gate import check
from prunus.measure.measured import Measured
from prunus.measure.stats import over_rows, verdict
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
    beside: Mapping[str, Recover] | None = None,
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

    With `recover`, the pruned model is recovered once for every control's seed, so that both arms have the same seeds and pair over
    them. Without any recovery there is one pruned model and nothing to pair but rows: where accuracy is measured, its note says
    better, below random or tie, by the paired interval over rows against the mean of the controls.

    Args:
        dense: before the plan.
        plan: what was removed.
        data: rows of role test or val.
        recovered: the pruned model after recovery. With `recover` too, it stands for that function's run with seed 0.
        recover: `(model, seed) -> model`, run on the pruned model and on every control, so that they get what the method got. A
            model that was `recovered` without it stands beside controls that were not, and their notes say so.
        beside: name -> `(model, seed) -> model`: what else is made of the cut model, with the same seeds: trained from scratch
            (`px.recover(model, how="scratch", ...)`), another recovery, nothing.
        controls: how many random models; 0 prints "no control was run".
        metrics: measures.
        signals, calibration: for controls of compensated plans: the signals the plan was made with, or rows to measure them on.
        step: adapter of a batch.
        example: what the model is called with, where the plan does not say.
        require: a gate, as `accuracy >= dense - 0.5`; holds for the mean over seeds.
        **settings: of the measures (batch, window, tokens, ...).

    Raises:
        GateFailed: `require` does not hold for the pruned model.
    """
    if controls < 0:
        raise BadInput(f"controls counts random models: 0 or more, not {controls}")
    prunable = ModelPrunable(dense, example, step)
    if signals is None and controls and calibration is not None:
        signals = _signals_of(plan, prunable, calibration, step)

    def measured(model: nn.Module) -> Measured:
        return measure(model, data, metrics, dense=dense, step=step, **settings)

    def control(seed: int) -> nn.Module:
        model = random_like(plan, seed, prunable=prunable, signals=signals).apply(dense)
        return model if recover is None else recover(model, seed)

    results = measured(dense).rows("dense")
    pruned = {seed: measured(model) for seed, model in _pruned(dense, plan, recovered, recover, controls)}
    random = {seed: measured(control(seed)) for seed in range(controls)}
    told, said = _notes(pruned, random, recovered=recovered is not None, paired=recover is not None)
    method, budget = str(plan.provenance.get("method", "")), plan.asked.short()
    for seed, found in pruned.items():
        results += _noted(found.rows(method or "pruned", method=method, budget=budget, seed=seed), told)
    for seed, found in random.items():
        name = f"{plan.unit}/random"
        results += _noted(found.rows("random, same counts", method=name, budget=budget, seed=seed, control=True), said)
    if require is not None:
        _gate(require, results)
    for name, function in (beside or {}).items():  # after the gate, which is for the pruned model
        for seed, model in _recovered(dense, plan, function, controls):
            results += measured(model).rows(name, method=method, budget=budget, seed=seed)
    return results


def _pruned(
    dense: nn.Module, plan: Plan, recovered: nn.Module | None, recover: Recover | None, controls: int
) -> Iterator[tuple[int | None, nn.Module]]:
    """(seed of its recovery, model): one for every control's seed, or a single one without a seed where nothing recovers."""
    if recover is None:
        yield None, recovered if recovered is not None else plan.apply(dense)
        return
    if recovered is not None:
        yield 0, recovered
    yield from _recovered(dense, plan, recover, controls, first=int(recovered is not None))


def _recovered(
    dense: nn.Module, plan: Plan, recover: Recover, controls: int, first: int = 0
) -> Iterator[tuple[int, nn.Module]]:
    """(seed, the cut model after a recovery), one after the other."""
    return ((seed, recover(plan.apply(dense), seed)) for seed in range(first, max(controls, 1)))


def _notes(
    pruned: Mapping[int | None, Measured], random: Mapping[int, Measured], *, recovered: bool, paired: bool
) -> tuple[str, str]:
    """What is to be said where nothing pairs over seeds: in the row of the pruned model, and in those of its controls."""
    if paired or not random:
        return "", ""
    if recovered:
        return "", "controls were not recovered as the pruned model was: pass recover="
    (found,) = pruned.values()
    return against_random(found, list(random.values())), ""


def against_random(pruned: Measured, random: Sequence[Measured]) -> str:
    """A sentence with the word (better, below random, tie) for one model against the mean of random ones, paired over rows.

    Returns:
        "" where accuracy was not measured.
    """
    mine = pruned.predictions
    theirs = [found.predictions for found in random if found.predictions is not None]
    if mine is None or not theirs:
        return ""
    gap = over_rows(mine.correct, np.mean([mine.same_rows(other).correct for other in theirs], axis=0))
    word = verdict(gap, better="higher")
    word = "below random" if word == "worse" else word
    interval = "" if gap.interval is None else f" [{100 * gap.interval[0]:+.1f} to {100 * gap.interval[1]:+.1f}]"
    gained = f"{100 * gap.mean:+.1f}{interval} points against the mean of {len(theirs)} random controls"
    return f"accuracy {word}: {gained}, paired over {gap.pairs} rows"


def _noted(results: Results, note: str) -> Results:
    """The same with one more note, at accuracy where that was measured, else at the first metric."""
    if not note:
        return results
    rows = list(results)
    place = next((at for at, row in enumerate(rows) if row.metric == "accuracy"), 0)
    rows[place] = replace(rows[place], note="; ".join(filter(None, (note, rows[place].note))))
    return Results(tuple(rows), results.environment)


def measure(
    model: nn.Module, data: Any, metrics: Sequence[str], *, dense: nn.Module | None = None, **settings: Any
) -> Measured:
    """Several measures as one Measured.

    Args:
        model: to measure.
        data: rows of role test or val.
        metrics: names of measures: accuracy, perplexity, params, macs, latency, size.
        dense: for measures that compare with it.
        **settings: each goes to the measures that have it.

    Raises:
        UnknownName: no such measure.
    """
    every = Measured({})
    for name in metrics:
        method = registry.find(name, kind="measure")
        if method.facts.get("of") == "selection":
            raise BadInput(f"{method.id} measures a plan over rows, not a model: prunus compare PLAN_A PLAN_B DATA")
        function = method.load()
        given = {key: value for key, value in settings.items() if asks_for(function, key)}
        if dense is not None and model is not dense and asks_for(function, "dense"):
            given["dense"] = dense
        found: Measured = function(model, data, **given)
        every.update(found)
        every.facts |= found.facts
        every.predictions = found.predictions or every.predictions
    return every


def _signals_of(plan: Plan, prunable: ModelPrunable, data: Any, step: Any) -> ModuleSignals | None:
    methods = [registry.find(name, kind="compensator") for name in plan.provenance.get("compensate") or []]
    needs = {need for method in methods for need in method.needs}
    return module_signals(prunable, needs, data=data, step=step, what="the controls' compensation") if needs else None


def _gate(require: str, results: Results) -> None:
    dense, pruned = (
        {metric: number.value for arm in arms(results) if arm.role == role for metric, number in arm.numbers.items()}
        for role in ("dense", "pruned")
    )
    check(require, pruned, dense)
