"""Advice for a terminal: what was found, what was measured nearest to it, methods and figures, the advice, the warnings."""

from __future__ import annotations

import math

from prunus.advise.advice import Advice, points
from prunus.advise.lookup import Column, Expected
from prunus.advise.probe import Situation
from prunus.core.arms import show
from prunus.core.table import columns

MARKS = {"better": "▲ wins", "worse": "▼ loses", "tie": "= tie"}
MOST = 12


def render(advice: Advice) -> str:
    """The whole answer, without a newline at the end."""
    parts = [
        situation(advice.situation),
        "",
        *(f"measured nearest to this: {column(one)}" for one in advice.columns),
        "",
    ]
    parts += [methods(advice), "", f"advice: {advice.lead}", *(f"warning: {line}" for line in advice.warnings)]
    return "\n".join(parts)


def situation(found: Situation) -> str:
    """Two lines about the rows and the budget."""
    classes = "no class labels"
    if found.classes:
        classes = f"{found.classes} classes (largest / smallest {found.imbalance:.2f}), {noise(found)}"
    of_class = f", {found.per_class:,.0f} of a class" if found.classes else ""
    return (
        f"{found.name}: {found.rows:,} rows, {classes}, {100 * found.copies:.1f} % copies\n"
        f"keeps {100 * found.share:.3g} %, {found.kept:,} rows{of_class}; drops {100 - 100 * found.share:.3g} %"
    )


def noise(found: Situation) -> str:
    """`about 19 % wrong labels`."""
    if found.noise is None:
        return "wrong labels not known"
    return f"{100 * found.noise:.0f} % wrong labels ({'as given' if found.noise_given else 'estimated'})"


def column(one: Column) -> str:
    """What a column is of, and how the control and training on all rows did there."""
    table, share = one.table, one.table.budgets[one.place]
    facts = [
        f"{table.rows:,} rows", f"{table.classes} classes", f"{100 * table.label_noise:.0f} % wrong labels", f"{100 * share:.4g} % kept",
        f"equal {table.equal}", f"{table.seeds} seeds",
    ]  # fmt: skip
    levels = (
        f"{show(table.metric, table.dense)} on all rows, {show(table.metric, table.base[one.place])} on {table.control}"
    )
    return f"{table.data} with {table.model} ({table.run}): {', '.join(facts)}; {table.metric} {levels}"


def methods(advice: Advice) -> str:
    """One line a method, best first."""
    shown = advice.ranked[:MOST] if len(advice.ranked) > MOST + 2 else advice.ranked
    noisy = any(one.nearest.wrong is not None for one in shown)
    head = [
        "method",
        f"against {advice.control}",
        "95 % interval",
        "",
        "signals to record",
        "work before",
        "paid after",
    ]
    head += (["keeps wrong"] if noisy else []) + ["smallest class"]
    lines = [
        [*_line(advice, one), *([_percent(one.nearest.wrong)] if noisy else []), _percent(one.nearest.smallest)]
        for one in shown
    ]
    more = [f"and {len(advice.ranked) - len(shown)} more: --json lists all"] if len(shown) < len(advice.ranked) else []
    return "\n".join([columns(head, lines, right=(1, 5, 6)), *more])


def _line(advice: Advice, one: Expected) -> list[str]:
    cell, table = one.nearest, one.seen[0][0].table
    ends = " to ".join(points(table, end).removesuffix(" points") for end in cell.interval or ())
    needs = ", ".join(one.missing) or ("at hand" if one.arm.needs else "none")
    paid = "never" if math.isinf(one.break_even) else f"{one.break_even:.1f}"
    return [one.arm.name, points(table, one.difference), ends, MARKS[cell.word], needs, f"{one.upfront:.2f}", paid]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
