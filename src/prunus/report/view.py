"""ReportData as the strings of a page or a Markdown file: cells, tiles, legends, captions. Both writers share it."""

from __future__ import annotations

from typing import Any

from prunus.core.arms import Arm, arms, better_is, count, is_share, metrics, show, show_interval
from prunus.report.cost import cost_rows
from prunus.report.data import KeptBars, PlanRow, ReportData, Verdict

INTERVAL_NOTE = "Small numbers are 95 % intervals: over seeds where an arm has several, else over the test rows."
TONES = {"tie": ("tie", "="), "better": ("good", "▲"), "worse": ("bad", "▼"), "below random": ("bad", "▼")}
DASH = "–"
MOST_TILES = 4


def arm_lines(data: ReportData) -> list[dict[str, Any]]:
    """One line an arm: what, budget, role, cells (value, interval) and the verdicts that a reader must not miss."""
    names = metrics(data.results)
    lines = []
    for arm in arms(data.results):
        words = dict.fromkeys(
            v.word for v in data.verdicts if (v.what, v.budget) == (arm.what, arm.budget) and v.word == "below random"
        )
        cells = [_cell(arm, name) for name in names]
        marked = [(f"▼ {word}", "bad") for word in words]
        lines.append({"what": arm.what, "budget": arm.budget, "role": arm.role, "cells": cells, "words": marked})
    return lines


def _cell(arm: Arm, metric: str) -> dict[str, str]:
    number = arm.numbers.get(metric)
    if number is None:
        return {"value": DASH, "interval": ""}
    seeds = f", {number.seeds} seeds" if number.seeds > 1 else ""
    interval = show_interval(metric, number)
    return {"value": show(metric, number.value), "interval": interval + seeds if interval else ""}


def tiles(data: ReportData) -> tuple[str, list[dict[str, str]]]:
    """Headline numbers of the first pruned arm beside the dense one; nothing without a dense arm."""
    found = arms(data.results)
    dense = next((arm for arm in found if arm.dense), None)
    pruned = next((arm for arm in found if arm.role == "pruned"), None)
    if dense is None or pruned is None:
        return "", []
    shared = [name for name in metrics(data.results) if name in dense.numbers and name in pruned.numbers]
    made = []
    for name in shared[:MOST_TILES]:
        value, before = pruned.numbers[name].value, dense.numbers[name].value
        ratio = f", × {value / before:.2f}" if not is_share(name, before) and before else ""
        made.append({"name": name, "value": show(name, value), "beside": f"dense {show(name, before)}{ratio}"})
    return f"{pruned.what}, {pruned.budget}" if pruned.budget else pruned.what, made


def verdict_line(verdict: Verdict) -> dict[str, str]:
    """A comparison in words: difference in points for shares, in the metric's unit else."""
    tone, mark = TONES.get(verdict.word, ("tie", "·"))
    low, high = verdict.interval
    share = all(is_share(verdict.metric, value) for value in (verdict.difference, low, high))
    scale, unit = (100.0, " points") if share else (1.0, "")
    line = {name: str(getattr(verdict, name)) for name in ("what", "budget", "against", "metric", "word")}
    shown = [f"{scale * value:+.2f}" if share else f"{value:+.4g}" for value in (verdict.difference, low, high)]
    return line | {"difference": shown[0] + unit, "interval": f"{shown[1]} to {shown[2]}", "tone": tone, "mark": mark}


def plan_view(plan: PlanRow) -> dict[str, Any]:
    """Asked / planned / got of one plan, a line for each quantity."""
    names = dict.fromkeys([*plan.planned, *plan.got, *plan.dense])
    lines = []
    for name in names:
        dense, planned, got = plan.dense.get(name), plan.planned.get(name), plan.got.get(name)
        cells = {
            "quantity": name,
            "dense": _value(name, dense),
            "planned": _value(name, planned),
            "got": _value(name, got),
        }
        lines.append(cells | {"planned_share": _share(planned, dense), "got_share": _share(got, dense)})
    units = (
        f"{count(plan.kept)} of {count(plan.total)} {plan.unit} in {plan.groups} group{'s' if plan.groups != 1 else ''}"
    )
    first = lines or [{"quantity": plan.unit, "dense": count(plan.total), "planned": count(plan.kept), "got": DASH}]
    return {"name": plan.name, "method": plan.method, "asked": plan.asked, "units": units, "lines": first}


def _value(name: str, value: float | None) -> str:
    return DASH if value is None else show(name, value)


def _share(value: float | None, dense: float | None) -> str:
    return f"{100 * value / dense:.1f} %" if value is not None and dense else ""


def cost_lines(data: ReportData) -> list[dict[str, str]]:
    """Costs with their break-even, as strings."""
    lines = []
    for row in cost_rows(arms(data.results)):
        seconds = {name: _seconds(getattr(row, name)) for name in ("signals", "selection", "training")}
        samples = DASH if row.samples is None else count(row.samples)
        lines.append(
            {"what": row.what, "budget": row.budget, "samples": samples, "words": row.words or DASH, **seconds}
        )
    return lines


def _seconds(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g} s" if value < 1e3 else f"{value:,.0f} s".replace(",", " ")


def bar_lines(bars: KeptBars) -> dict[str, Any]:
    """Names, counts and shares of the groups of one plan."""
    lines = [
        {
            "name": name,
            "kept": count(kept),
            "size": count(size),
            "percent": f"{100 * kept / max(size, 1):.2f}",
            "share": _share(kept, size),
        }
        for name, kept, size in zip(bars.names, bars.kept, bars.sizes)
    ]
    return {"title": bars.title, "lines": lines}


def direction(metric: str) -> str:
    """`higher is better`, `lower is better`, or ""."""
    better = better_is(metric)
    return f"{better} is better" if better else ""


def environment(data: ReportData) -> list[tuple[str, str]]:
    """Name and value of what the numbers were measured with."""
    return [(str(name), str(value)) for name, value in {**data.results.environment, **data.environment}.items()]
