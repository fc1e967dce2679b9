"""Heats as the strings of a page, a Markdown file or a terminal."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from prunus.core.arms import better_is, is_share, label, show
from prunus.core.budget import Budget
from prunus.report.data import Heat, HeatCell, HeatRow
from prunus.report.settings import shown

MARKS = {"better": "▲", "worse": "▼", "tie": "="}
DASH = "–"
DARKEST = 0.55  # share of the colour in the darkest cell: text on it stays readable


def heat_table(heat: Heat) -> dict[str, Any]:
    """Title, column heads in two lines and in one, the control's own values, and a line for each method."""
    scale = _scale(heat)
    names = [shown(setting) or "all" for setting, _ in heat.columns]
    budgets = [Budget.parse(budget).short().removesuffix(" rows") for _, budget in heat.columns]
    several = set(names) != {"all"}
    return {
        "title": title(heat),
        "against": heat.against,
        "groups": [{"name": name, "span": len(list(same))} for name, same in groupby(names)],
        "budgets": budgets,
        "heads": [f"{name} {budget}" if several else budget for name, budget in zip(names, budgets)],
        "starts": _starts(heat),
        "base": [_number(heat, value) for value in heat.base],
        "dense": [_number(heat, value) for value in heat.dense],
        "lines": [_line(heat, row, scale) for row in heat.rows],
        "note": note(heat),
        "paid": any(_paid(row) for row in heat.rows),
        "upfront": _works(heat),
    }


def title(heat: Heat) -> str:
    """`Accuracy against random_balanced, equal steps`."""
    words = f"{label(heat.metric)} against {heat.against}"
    return words[:1].upper() + words[1:] + (f", {heat.title}" if heat.title else "")


def note(heat: Heat) -> str:
    """What the cells say."""
    pairs = sorted({cell.pairs for row in heat.rows for cell in row.cells if cell})
    seeds = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}" if pairs else "no"
    unit = "in points" if _shares(heat) else f"in {label(heat.metric)}"
    cells = sum(cell is not None for row in heat.rows for cell in row.cells)
    return (
        f"Mean difference {unit}, paired over {seeds} seeds. ▲ wins, ▼ loses: the 95 % interval excludes 0, "
        f"also after Holm's correction over the {cells} cells; = is a tie."
        + (" Work before: signals and selection, in trainings on all rows." if _works(heat) else "")
        + (" Paid after: so many trainings on what is kept, over the columns." if any(map(_paid, heat.rows)) else "")
    )


def _works(heat: Heat) -> bool:
    return any(row.upfront is not None for row in heat.rows)


def _line(heat: Heat, row: HeatRow, scale: float) -> dict[str, Any]:
    upfront = "" if row.upfront is None else f"{row.upfront:.2f}"
    cells = [_cell(heat, cell, scale) for cell in row.cells]
    return {"name": row.name, "control": row.control, "upfront": upfront, "paid": _paid(row), "cells": cells}


def _paid(row: HeatRow) -> str:
    """After how many trainings the work before is paid back: `1.2 to 2.1`; "" where it never is, at any budget."""
    found = sorted({f"{cell.break_even:.1f}" for cell in row.cells if cell and cell.break_even is not None}, key=float)
    return " to ".join(dict.fromkeys([found[0], found[-1]])) if found else ""


def _cell(heat: Heat, cell: HeatCell | None, scale: float) -> dict[str, Any]:
    if cell is None:
        return {"word": "", "mark": "", "difference": DASH, "interval": "", "tone": "", "strength": "0"}
    factor, form = (100.0, "+.1f") if _shares(heat) else (1.0, "+.3g")
    number = f"{factor * cell.difference:{form}}".replace("-", "−")
    ends = [f"{factor * end:{form}}".replace("-", "−") for end in cell.interval or ()]
    sign = -1 if better_is(heat.metric) == "lower" else 1
    strength = DARKEST * min(1.0, abs(cell.difference) / scale) ** 0.6 if scale else 0.0
    return {
        "word": cell.word,
        "mark": MARKS[cell.word],
        "difference": number,
        "interval": " to ".join(ends),
        "tone": "good" if sign * cell.difference > 0 else "bad",
        "strength": f"{100 * strength * (1.0 if cell.word != 'tie' else 0.45):.0f}",
    }


def _scale(heat: Heat) -> float:
    """The difference that gets the darkest colour: the largest, or less where one is far out."""
    sizes = sorted(abs(cell.difference) for row in heat.rows for cell in row.cells if cell)
    return sizes[int(0.9 * (len(sizes) - 1))] if sizes else 0.0


def _shares(heat: Heat) -> bool:
    return all(is_share(heat.metric, value) for value in heat.base if value is not None)


def _number(heat: Heat, value: float | None) -> str:
    return DASH if value is None else show(heat.metric, value)


def _starts(heat: Heat) -> list[bool]:
    """Which columns begin a setting."""
    settings = [setting for setting, _ in heat.columns]
    return [place > 0 and settings[place - 1] != setting for place, setting in enumerate(settings)]
