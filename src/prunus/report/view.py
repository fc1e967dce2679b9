"""ReportData as the strings of a page or a Markdown file: cells, tiles, captions. Both writers share it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from prunus.core.arms import Arm, arms, better_is, count, dense_of, is_share, label, metrics, show, show_interval
from prunus.report.cost import TRAINING, cost_rows
from prunus.report.data import KeptBars, PlanRow, ReportData, Verdict
from prunus.report.verdicts import RAW

TONES = {"tie": ("tie", "="), "better": ("good", "▲"), "worse": ("bad", "▼"), "below random": ("bad", "▼")}
DASH = "–"
MOST_TILES = 4
COST_PARTS = ("samples", "signals", "selection", "teacher", "training", "recovery")


def arm_lines(data: ReportData) -> list[dict[str, Any]]:
    """One line an arm and budget: what, budget, role, cells (value, interval), and the verdict that must not be missed.

    `span` is the number of lines of the same arm on the first of them, and 0 on the others.
    """
    names = metrics(data.results)
    below: dict[tuple[str, str], dict[str, None]] = {}
    for verdict in data.verdicts:
        if verdict.word == "below random":
            below.setdefault((verdict.what, verdict.budget), {})[label(verdict.metric)] = None
    lines = []
    for arm in arms(data.results):
        named = below.get((arm.what, arm.budget))  # accuracy may tie where the loss does not, so the flag says which
        flag = f"▼ below random ({', '.join(named)})" if named else ""
        cells = [_cell(arm, name) for name in names]
        lines.append({"what": arm.what, "budget": arm.budget, "role": arm.role, "cells": cells, "flag": flag})
    return spanned(lines)


def spanned(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines with `span` for a name that is written once: lines of one arm that stand together."""
    out: list[dict[str, Any]] = []
    for _, same in groupby(lines, key=lambda line: (line["what"], line.get("role"))):
        group = list(same)
        out += [
            {**line, "span": len(group) if i == 0 else 0, "last": i == len(group) - 1} for i, line in enumerate(group)
        ]
    return out


def _cell(arm: Arm, metric: str) -> dict[str, str]:
    number = arm.numbers.get(metric)
    if number is None:
        return {"value": DASH, "interval": ""}
    return {"value": show(metric, number.value), "interval": show_interval(metric, number)}


def interval_note(data: ReportData) -> str:
    """What the small numbers are; "" where there are none."""
    found = [number for arm in arms(data.results) for number in arm.numbers.values() if number.interval]
    if not found:
        return ""
    seeds = sorted({number.seeds for number in found})
    if seeds == [1]:
        return "Small numbers are 95 % intervals over the test rows."
    runs = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"Small numbers are 95 % intervals of the mean over {runs} seeds" + (
        "; one seed: over the test rows." if 1 in seeds else "."
    )


def headline(data: ReportData) -> Arm | None:
    """The arm whose numbers open the page."""
    pruned = [arm for arm in arms(data.results) if arm.role == "pruned"]
    said = sorted(data.verdicts, key=lambda verdict: (verdict.what.endswith(RAW), verdict.word != "better"))
    wanted = data.headline or next(((v.what, v.budget) for v in said), None)
    return next((arm for arm in pruned if (arm.what, arm.budget) == wanted), pruned[-1] if pruned else None)


def tiles(data: ReportData) -> tuple[str, list[dict[str, str]]]:
    """Headline numbers beside the dense ones: metrics, then plan quantities, then training time; nothing without a dense arm."""
    if data.heats and data.headline is None:
        return "", []  # one arm out of many would stand for all
    found = arms(data.results)
    pruned = headline(data)
    dense = None if pruned is None else dense_of(pruned, found)
    if dense is None or pruned is None:
        return "", []
    shared = [name for name in metrics(data.results) if name in pruned.numbers and name in dense.numbers]
    pairs = {name: (pruned.numbers[name].value, dense.numbers[name].value) for name in shared}
    for plan in data.plans[:1]:
        reached = plan.got or plan.planned
        pairs |= {
            name: (value, plan.dense[name])
            for name, value in reached.items()
            if name in plan.dense and name not in pairs
        }
    if TRAINING in pruned.cost and TRAINING in dense.cost:
        pairs["training_seconds"] = (pruned.cost[TRAINING], dense.cost[TRAINING])
    made = [_tile(name, *pair) for name, pair in list(pairs.items())[:MOST_TILES]]
    return ", ".join(filter(None, [pruned.what, pruned.budget])), made


def _tile(name: str, value: float, before: float) -> dict[str, str]:
    ratio = f", ×\u00a0{value / before:.2f}" if before and not is_share(name, before) else ""
    return {"name": label(name), "value": show(name, value), "beside": f"dense {show(name, before)}{ratio}"}


def verdict_line(verdict: Verdict) -> dict[str, str]:
    """A comparison in words: difference in points for shares, in the metric's unit else."""
    tone, mark = TONES.get(verdict.word, ("tie", "·"))
    values = (verdict.difference, *(verdict.interval or ()))
    share = all(is_share(verdict.metric, value) for value in values)
    scale, form, unit = (100.0, "+.2f", " points") if share else (1.0, "+.4g", "")
    difference, *ends = (f"{scale * value:{form}}".replace("-", "−") for value in values)
    line = {name: str(getattr(verdict, name)) for name in ("what", "budget", "against", "word")}
    line |= {"metric": label(verdict.metric), "tone": tone, "mark": mark}
    return line | {"difference": difference + unit, "interval": " to ".join(ends) or "one pair: no interval"}


def plan_view(plan: PlanRow) -> dict[str, Any]:
    """Asked / planned / got of one plan, a line for each quantity."""
    lines = []
    for name in dict.fromkeys([*plan.planned, *plan.got, *plan.dense]):
        dense, planned, got = plan.dense.get(name), plan.planned.get(name), plan.got.get(name)
        cells = {
            "quantity": label(name),
            "dense": _value(name, dense),
            "planned": _value(name, planned),
            "got": _value(name, got),
        }
        lines.append(cells | {"planned_share": _share(planned, dense), "got_share": _share(got, dense)})
    units = (
        f"{count(plan.kept)} of {count(plan.total)} {plan.unit} in {plan.groups} group{'s' if plan.groups != 1 else ''}"
    )
    only = {
        "quantity": plan.unit,
        "dense": count(plan.total),
        "planned": count(plan.kept),
        "got": DASH,
        "got_share": "",
    }
    only |= {"planned_share": _share(plan.kept, plan.total)}
    return {"name": plan.name, "method": plan.method, "asked": plan.asked, "units": units, "lines": lines or [only]}


def _value(name: str, value: float | None) -> str:
    return DASH if value is None else show(name, value)


def _share(value: float | None, dense: float | None) -> str:
    return f"{100 * value / dense:.1f} %" if value is not None and dense else ""


def cost_table(data: ReportData) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and lines of the costs with their break-even; a column that no arm fills is left out.

    Each line has what, budget, `cells` (numbers under the titles), `words` for the break-even, span and last.
    """
    rows = cost_rows(arms(data.results))
    parts = [part for part in COST_PARTS if any(getattr(row, part) is not None for row in rows)]
    lines = []
    for row in rows:
        values = [getattr(row, part) for part in parts]
        cells = [
            DASH if v is None else count(v) if part == "samples" else show("seconds", v)
            for part, v in zip(parts, values)
        ]
        lines.append({"what": row.what, "budget": row.budget, "cells": cells, "words": row.words or DASH})
    return parts, spanned(lines)


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
