"""Stages from signals to plans: what is recorded of rows and modules, the scores, and what stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunus.core import files, registry
from prunus.core.budget import Budget, Term
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.score import Score
from prunus.flow.channels import plan_channels, score_channels
from prunus.flow.controls import random_like
from prunus.flow.layers import plan_layers, score_layers
from prunus.flow.ranks import plan_ranks
from prunus.flow.rows import default_selector, plan_rows, score_rows
from prunus.flow.signals import Fit, validation
from prunus.flow.split import Split
from prunus.flow.weights import plan_weights
from prunus.prunables.example import example_of
from prunus.prunables.model import ModelPrunable
from prunus.prunables.stream import TokenStream
from prunus.run.models_on_disk import constructed, fit_settings, read_model
from prunus.run.outside import PINNED, placed, with_target
from prunus.run.rows_on_disk import limited, read_rows
from prunus.signals.collect import Collected, collect
from prunus.signals.modules import ModuleSignals
from prunus.signals.rowset import Signals
from prunus.sources.export import read_ids

Inputs = Mapping[str, Path]
Params = dict[str, Any]


def record_signals(inputs: Inputs, params: Params, out: Path) -> None:
    """`run-<k>/` of rows, recorded while training or in a pass, `val/` of rows of role val (by the first run's model),
    `modules/`, and `signals.json`, which says what is there."""
    rows = limited(read_rows(inputs["data"], "fit"), params["limit"], "limit/signals")
    if "plan" in inputs:
        rows = Plan.load(inputs["plan"]).apply(rows)
    need, of_val = params["need"], params.get("val", [])
    val = read_rows(inputs["data"], "val") if of_val else None
    if params["train"]:
        pairs = _training_runs(inputs["model"], params).pairs(rows, need, val, of_val)
        runs, judged = [run for run, _ in pairs], pairs[0][1]
    else:
        model, batch = read_model(inputs["model"]), params["batch"]
        found = collect(model, rows, need, batch=batch, progress=False) if need else Collected(None, None)
        if found.modules is not None:
            found.modules.save(out / "modules")
        runs = [found.rows] if found.rows is not None else []
        judged = None if val is None else validation(model, val, of_val, batch=batch)
    for number, signals in enumerate(runs):
        signals.save(out / f"run-{number}")
    if judged is not None:
        judged.save(out / "val")
    files.write_json(out / "signals.json", {"runs": len(runs), "need": params["need"]})


def _training_runs(model: Path, params: Params) -> Fit:
    """The recorded training: as the train table says, for the epochs of the signals table where it names them."""
    table = params["train"]
    length = {name: table[name] for name in ("epochs", "steps") if table[name]}
    if params["epochs"]:
        length = {"epochs": params["epochs"]}
    own = {name: params[name] for name in ("recorder", "checkpoints", "folds") if name in params}
    return Fit(lambda: _fresh(model), seeds=params["seeds"], settings=fit_settings(table), **length, **own)


def _fresh(folder: Path) -> nn.Module:
    """The model of a folder as its constructor starts it, drawn from the generator in force."""
    return constructed(folder, seed=int(torch.randint(2**31, (1,))))


def rows_signals(folder: Path | None) -> list[Signals]:
    """Signals of rows, one for each run; none where no pass was needed."""
    if folder is None or not (folder / "signals.json").exists():
        return []
    return [Signals.load(folder / f"run-{n}") for n in range(files.read_json(folder / "signals.json")["runs"])]


def modules_signals(folder: Path | None) -> ModuleSignals | None:
    """Signals of modules, or None where none were measured."""
    return ModuleSignals.load(folder / "modules") if folder is not None and (folder / "modules").is_dir() else None


def make_score(inputs: Inputs, params: Params, out: Path) -> None:
    """A Score over rows, channels or layers."""
    method, recorded = params["method"]["name"], inputs.get("signals")
    common: Params = {"seed": params.get("seed", 0), "options": with_target(params["method"]["options"])}
    if params["unit"] == "rows":
        data = read_rows(inputs["data"], "fit")
        score = score_rows(data, method, signals=rows_signals(recorded) or None, **common)
    else:
        score_units = {"channels": score_channels, "layers": score_layers}[params["unit"]]
        score = score_units(_prunable(inputs), method, signals=modules_signals(recorded), **common)
    score.save(out)


def _prunable(inputs: Inputs) -> ModelPrunable:
    model = read_model(inputs["model"])
    return ModelPrunable(model, example_of(read_rows(inputs["data"], "fit"), model))


def make_plan(inputs: Inputs, params: Params, out: Path) -> None:
    """A Plan over any unit."""
    planner = {"rows": _rows, "tokens": _tokens}.get(params["unit"], _model)
    planner(inputs, params, _budget(params, inputs)).save(out)


def _budget(params: Params, inputs: Inputs) -> Budget:
    names = ("floor", "round_to", "same_shape", "tolerance")
    ids = {name: tuple(read_ids(placed(params[name])).tolist()) for name in PINNED if params.get(name)}
    budget = Budget.parse(params["budget"], **{name: params[name] for name in names}, **ids)
    if "parent" not in inputs or params["unit"] != "channels":
        return budget
    # Every budget is against the dense original, so what an earlier plan has taken already counts.
    if any(term.relative and term.quantity == "ms" for term in budget.terms):
        raise BadInput(f"{params['budget']!r} behind another plan: give milliseconds as a number, not as a share")
    dense = _prunable({**inputs, "model": inputs["dense"]}).cost()
    terms = [Term(t.limit(dense[t.quantity]), False, t.quantity) if t.relative else t for t in budget.terms]
    return replace(budget, terms=tuple(terms))


def _rows(inputs: Inputs, params: Params, budget: Budget) -> Plan:
    score = Score.load(inputs["score"])
    runs = rows_signals(inputs.get("signals"))
    data = read_rows(inputs["data"], "fit")
    labels = {} if data.labels is None else {"labels": data.labels}
    signals = runs[0].align(score.group("rows").ids) if runs else Signals(ids=data.ids, **labels)
    score = replace(score, signals=signals)
    select: Params = params.get("select") or {"name": default_selector(score), "options": {}}
    chosen = find_selector(select["name"])
    options: Params = with_target(select["options"])
    if params["within"] and any(option.name == "within" for option in chosen.options):
        options["within"] = params["within"]
    seed, allocate = params.get("seed", 0), params.get("allocate")
    val = _validation(inputs)
    split = Split(allocate["name"], params.get("over") or "class", allocate["options"], val, seed) if allocate else None
    own: Params = {"seed": seed, "data": data, "weights": params.get("weights", True), "options": options}
    plan = plan_rows(score, budget, select=chosen.id, allocate=split, val=val, **own)
    return plan.after(Plan.load(inputs["parent"])) if "parent" in inputs else plan


def _validation(inputs: Inputs) -> Signals | None:
    """Signals of rows of role val, where the pass was asked for them."""
    folder = inputs["signals"] / "val" if "signals" in inputs else None
    return Signals.load(folder) if folder is not None and folder.is_dir() else None


def _tokens(inputs: Inputs, params: Params, budget: Budget) -> Plan:
    method, at, seed = params["method"], params["at"] or None, params.get("seed", 0)
    return TokenStream(read_model(inputs["model"])).plan(method["name"], budget, at=at, seed=seed, **method["options"])


def _model(inputs: Inputs, params: Params, budget: Budget) -> Plan:
    prunable = _prunable(inputs)
    signals = modules_signals(inputs.get("signals"))
    seed, method = params.get("seed", 0), params["method"]
    if "like" in inputs:
        return random_like(Plan.load(inputs["like"]), seed, prunable=prunable, signals=signals)
    found = registry.find(method["name"], unit=params["unit"], kind=("criterion", "solver", "search"))
    common: Params = {"signals": signals, "seed": seed, "options": method["options"]}
    if params["unit"] == "weights":
        within = {"within": params["within"]} if params["within"] else {}
        return plan_weights(prunable, found, budget, layers=_layers(prunable), **common, **within)
    score = Score.load(inputs["score"]) if "score" in inputs else None
    if params["unit"] == "layers":
        return plan_layers(prunable, found, budget, score=score, **common)
    if params["unit"] == "ranks":
        return plan_ranks(prunable, found, budget, layers=_layers(prunable), **common)
    if params["unit"] != "channels":
        raise BadInput(f"recipes can't remove {params['unit']} yet")
    compensate = (params.get("compensate") or {}).get("name")  # None: the method's own; "none": no compensation
    own = {name: params[key] for name, key in (("scope", "within"), ("groups", "groups")) if params[key]}
    return plan_channels(prunable, found.id, budget, score=score, compensate=compensate, **common, **own)


def _layers(prunable: ModelPrunable) -> str:
    """Language models: embeddings and heads are left alone, as everyone does."""
    return "blocks" if hasattr(prunable.model, "config") else "all"
