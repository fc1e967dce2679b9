"""Advice for a terminal: what was found, what was measured nearest to it, methods and figures, the advice, the warnings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from prunus.advise.advice import Advice
from prunus.advise.lookup import Column, Expected
from prunus.advise.probe import Situation
from prunus.advise.words import ends, percent, points
from prunus.core.arms import show
from prunus.core.table import columns

MARKS = {"better": "▲ wins", "worse": "▼ loses", "tie": "= tie"}
MOST = 12


def render(advice: Advice) -> str:
    """The whole answer, without a newline at the end."""
    parts = [
        situation(advice.situation),
        "",
        "measured nearest to this:",
        *(f"  {column(one)}" for one in advice.columns),
        "",
    ]
    parts += [methods(advice), "", f"advice: {advice.lead}"]
    parts += _shortlist(advice)
    parts += [f"asked: {advice.answer}"] if advice.answer else []
    return "\n".join([*parts, *(f"warning: {line}" for line in advice.warnings)])


def situation(found: Situation) -> str:
    """Two lines about the rows and the budget."""
    classes = "no class labels"
    if found.classes:
        classes = f"{found.classes} classes (largest / smallest {found.imbalance:.2f}), {noise(found)}"
    share = round(100 * found.share, 1)
    of_class = f", {found.per_class:,.0f} of a class" if found.classes else ""
    return (
        f"{found.name}: {found.rows:,} rows, {classes}, {100 * found.copies:.1f} % copies\n"
        f"keeps {share:g} %, {found.kept:,} rows{of_class}; drops {100 - share:g} %"
    )


def noise(found: Situation) -> str:
    """`about 19 % wrong labels`."""
    if found.noise is None:
        return "wrong labels not known"
    return f"{100 * found.noise:.0f} % wrong labels ({'as given' if found.noise_given else 'estimated'})"


def column(one: Column) -> str:
    """What a column is of, and how the control and training on all rows did there."""
    table, share = one.table, one.share
    facts = [
        f"{table.rows:,} rows", f"{table.classes} classes", f"{100 * table.label_noise:.0f} % wrong labels", f"{100 * share:.4g} % kept",
        f"equal {table.equal}", f"{table.seeds} seeds",
    ]  # fmt: skip
    levels = (
        f"{show(table.metric, table.dense)} on all rows, {show(table.metric, table.base[one.place])} on {table.control}"
    )
    return f"{table.data} with {table.model}: {', '.join(facts)}; {table.metric} {levels} ({table.run})"


def methods(advice: Advice) -> str:
    """One line a method, best first: what to expect over all measurements, and the nearest of them."""
    shown = advice.ranked[:MOST] if len(advice.ranked) > MOST + 2 else advice.ranked
    several, noisy = len(advice.columns) > 1, any(one.nearest.wrong is not None for one in shown)
    head = ["method", *(["expected"] if several else []), "nearest", "95 % interval", ""]
    head += ["work before", "paid after", *(["keeps wrong"] if noisy else []), "smallest class"]
    lines = [_line(one, several=several, noisy=noisy) for one in shown]
    right = [place for place, name in enumerate(head) if name not in ("method", "")]
    rest = advice.ranked[len(shown) :]
    more = [f"and {len(rest)} more, {sum(one.loses for one in rest)} of them lost: --json lists all"] if rest else []
    title = f"difference from {advice.control}; a win or a loss only after Holm's correction over its whole table"
    return "\n".join([title, columns(head, lines, right=right), *more])


def _line(one: Expected, *, several: bool, noisy: bool) -> list[str]:
    cell, table = one.nearest, one.seen[0][0].table
    paid = "never" if math.isinf(one.break_even) else f"{one.break_even:.1f}"
    line = [one.arm.name, *([points(table, one.difference)] if several else []), points(table, cell.difference)]
    line += [ends(table, cell), MARKS[cell.word], f"{one.upfront:.2f}", paid]
    return [*line, *([percent(cell.wrong)] if noisy else []), percent(cell.smallest)]


def _shortlist(advice: Advice) -> list[str]:
    """How a recipe writes what is worth a try, and the signals it still lacks."""
    lines = [prune(one, advice.situation.budget) for one in advice.shortlist]
    wide = max(map(len, lines), default=0)
    needs = [f"  # records {', '.join(one.missing)}" if one.missing else "" for one in advice.shortlist]
    made = [f"  {line:{wide}}{need}".rstrip() for line, need in zip(lines, needs)]
    return ["in a recipe:", *made] if made else []


def prune(one: Expected, budget: str) -> str:
    """An arm as a recipe writes it: `prune = { method = "aum", budget = "30% rows", select = "ccs" }`."""
    select = _choice(one.arm.select, one.arm.select_options)
    tail = f", select = {select}" if one.arm.select and (one.arm.select_options or one.arm.select != "top") else ""
    return f'prune = {{ method = {_choice(one.arm.method, one.arm.method_options)}, budget = "{budget}"{tail} }}'


def _choice(name: str, options: Mapping[str, Any]) -> str:
    inside = "".join(f", {key} = {json.dumps(value)}" for key, value in options.items())
    return f'{{ name = "{name}"{inside} }}' if inside else f'"{name}"'
