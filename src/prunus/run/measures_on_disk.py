"""Stages that measure and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core import files
from prunus.core.plan import Plan
from prunus.core.score import Score
from prunus.flow.compare import measure
from prunus.measure.measured import Measured
from prunus.prunables.dataset import Dataset
from prunus.report import runfolder
from prunus.report.build import gallery, histogram, kept_by_label
from prunus.report.data import Gallery, Histogram, KeptBars
from prunus.run.models_on_disk import read_model
from prunus.run.rows_on_disk import limited, read_rows

Inputs = Mapping[str, Path]
Params = dict[str, Any]
AGAINST_DENSE = ("latency", "similarity", "connectivity")
SHOWN, PICTURES = 3, 12
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
        found = _measured(name, model, data, params, dense)
        note = "; ".join(f"{key}={value}" for key, value in sorted(found.facts.items()))
        note = f"{note}; {MASKED}" if masked and name in ("params", "size", "latency", "macs") else note
        lines += _lines(found, note)
    _write(lines, out)


def measure_pair(inputs: Inputs, params: Params, out: Path) -> None:
    """`metrics.jsonl` of two models beside each other, on rows of role fit: no choice may rest on test rows."""
    data = limited(read_rows(inputs["data"], "fit"), params["limit"], "limit/measure")
    model, other = read_model(inputs["model"]), read_model(inputs["other"])
    settings: Params = {"batch": params["batch"], "points": params["points"]}
    found = measure(model, data, ("connectivity", "similarity"), dense=other, **settings)
    _write(_lines(found, f"rows={found.facts['rows']}; role={data.role}"), out)


def _lines(found: Measured, note: str) -> list[dict[str, Any]]:
    return [{"metric": m, "value": v, "interval": i, "note": note} for m, (v, i) in found.items()]


def _write(lines: list[dict[str, Any]], out: Path) -> None:
    files.write_bytes(out / "metrics.jsonl", b"".join(files.dump_line(line) for line in lines))


def _measured(name: str, model: nn.Module, data: Dataset, params: Params, dense: nn.Module | None) -> Measured:
    """One measure; perplexity reads the windows' tokens as one text, in the type that the table asks for."""
    settings: Params = {"batch": params["latency_batch"] if name == "latency" else params["batch"]}
    if name == "latency":
        settings["repeats"] = params["repeats"]
    if name == "perplexity":
        windows = torch.as_tensor(data.unwrapped()["input_ids"])
        kind = getattr(torch, params["dtype"]) if params["dtype"] else None
        settings = {"batch": 1, "window": params["window"] or windows.shape[1], "tokens": params["tokens"]}
        return measure(model.to(kind) if kind else model, windows.reshape(-1), (name,), **settings)
    return measure(model, data, (name,), dense=dense, **settings)


def write_report(inputs: Inputs, params: Params, out: Path) -> None:
    """The report of a run folder, with what only the run can show: scores, classes and pictures of rows kept and dropped."""
    folder = inputs["run"]
    title = params.get("title") or params["name"]
    data = runfolder.read(folder, title=title, command=f"prunus run {params['name']}.toml")
    extras = [_rows_shown(place) for place in _first_row_plans(folder)]
    data = replace(
        data,
        kept=(*data.kept, *(bars for bars, _, _ in extras if bars)),
        histograms=(*data.histograms, *(histogram for _, histogram, _ in extras if histogram)),
        galleries=(*data.galleries, *(gallery for _, _, gallery in extras if gallery)),
    )
    runfolder.write(data, out, params.get("forms", ("html",)))


def _first_row_plans(folder: Path) -> list[Path]:
    """Where the plan over rows of every arm lies, first budget and first seed; at most three arms."""
    found: list[Path] = []
    for arm in sorted(path for path in (folder / "arms").iterdir() if path.is_dir()):
        places = sorted(path.parent for path in arm.glob("*/seed*/score"))
        found += places[:1]
    return found[:SHOWN]


def _rows_shown(place: Path) -> tuple[KeptBars | None, Histogram | None, Gallery | None]:
    plan_folder = place / "rows" if (place / "rows").exists() else place / "plan"
    plan, score, data = Plan.load(plan_folder), Score.load(place / "score"), read_rows(place / "data", "fit")
    name = f"{place.parents[1].name}, {plan.asked.short()}"
    bars = None
    if data.labels is not None:
        bars = kept_by_label(data.ids, data.labels, plan, tuple(data.classes or ()))
        bars = replace(bars, title=f"{name}: rows kept in each class")
    shown = histogram(score, plan, f"{name}: scores") if score.sense != "keep" else None
    return bars, shown, _pictures(data, plan, name)


def _pictures(data: Dataset, plan: Plan, name: str) -> Gallery | None:
    """A dozen rows that stay and a dozen that go, where rows are images."""
    chosen = np.concatenate([_spread(ids) for ids in (plan.keep(), plan.dropped())])
    batch = next(data.subset(chosen).batches(chosen.size))
    if isinstance(batch, dict):  # text
        return None
    ids, pixels, labels = batch
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        return None
    shown = _captions(ids, labels, data.classes)
    return gallery(dict(zip(ids.tolist(), pixels.numpy())), plan, shown, f"{name}: rows", most=PICTURES)


def _spread(ids: np.ndarray) -> np.ndarray:
    """A dozen ids, evenly spread over all."""
    return ids[np.linspace(0, ids.size - 1, min(PICTURES, ids.size)).astype(int)] if ids.size else ids


def _captions(ids: np.ndarray, labels: Tensor | None, classes: tuple[str, ...] | None) -> dict[Any, str]:
    """Id -> the name of its class, else the number of its class, else the id itself."""
    if labels is None:
        return {id_: str(id_) for id_ in ids.tolist()}
    numbers = [int(label) for label in labels.tolist()]
    return dict(zip(ids.tolist(), [classes[number] if classes else str(number) for number in numbers]))
