"""Stages that measure and report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prunus.core import files
from prunus.core.plan import Plan
from prunus.core.results import Results
from prunus.flow.compare import measure
from prunus.report import runfolder
from prunus.report.verdicts import over_arms
from prunus.run.models_on_disk import read_model
from prunus.run.rows_on_disk import limited, read_rows

Inputs = Mapping[str, Path]
Params = dict[str, Any]
AGAINST_DENSE = ("latency",)
MASKED = "masked: size and time are unchanged"


def measure_model(inputs: Inputs, params: Params, out: Path) -> None:
    """`metrics.jsonl`, one line a metric."""
    model = read_model(inputs["model"])
    data = limited(read_rows(inputs["data"], params["role"]), params["limit"], "limit/measure")
    plan = Plan.load(inputs["plan"]) if "plan" in inputs else None
    masked = plan is not None and plan.unit == "weights"
    lines: list[dict[str, Any]] = []
    for name in params["metrics"]:
        dense = read_model(inputs["dense"]) if name in AGAINST_DENSE and inputs["dense"] != inputs["model"] else None
        found = _one(name, model, data, params, dense)
        note = "; ".join(f"{key}={value}" for key, value in sorted(found.facts.items()))
        note = f"{note}; {MASKED}" if masked and name in ("params", "size", "latency", "macs") else note
        lines += [{"metric": m, "value": v, "interval": i, "note": note} for m, (v, i) in found.items()]
    files.write_bytes(out / "metrics.jsonl", b"".join(files.dump_line(line) for line in lines))


def _one(name: str, model: Any, data: Any, params: Params, dense: Any) -> Any:
    settings: Params = {"batch": params["latency_batch"] if name == "latency" else params["batch"]}
    if name == "latency":
        settings["repeats"] = params["repeats"]
    if name == "perplexity":
        tokens = torch.from_numpy(data.unwrapped["input_ids"]).reshape(-1)
        window = params["window"] or data.unwrapped["input_ids"].shape[1]
        kind = getattr(torch, params["dtype"]) if params["dtype"] else None
        settings = {"batch": 1, "window": window, "tokens": params["tokens"]}
        return measure(model.to(kind) if kind else model, tokens, (name,), **settings)
    return measure(model, data, (name,), dense=dense, **settings)


def write_report(inputs: Inputs, params: Params, out: Path) -> None:
    """The report of a run folder, in the forms asked for."""
    folder = inputs["run"]
    rows = Results.read(sorted((folder / "metrics").glob("*.jsonl")))
    title = params["title"] or params["name"]
    command = params.get("command") or f"prunus run {params['name']}.toml"
    data = runfolder.read(folder, title=title, command=command, verdicts=over_arms(rows))
    runfolder.write(data, out, params["forms"])
