"""Phrases that the answer, the warnings and the text share: a difference, a fate, and what was measured of its reason."""

from __future__ import annotations

from prunus.advise.lookup import Column, Expected
from prunus.advise.measured import Cell, Table

WORDS = {"better": "a win", "worse": "a loss", "tie": "a tie"}


def points(table: Table, value: float) -> str:
    """A difference in the table's unit."""
    share = table.metric == "accuracy"
    return (f"{100 * value:+.1f} points" if share else f"{value:+.3g} {table.metric}").replace("-", "−")


def percent(value: float | None) -> str:
    """A share; "" for none."""
    return "" if value is None else f"{100 * value:.0f} %"


def ends(table: Table, cell: Cell) -> str:
    """`−15.0 to +0.4`; "" without an interval."""
    return " to ".join(points(table, end).removesuffix(" points") for end in cell.interval or ())


def place(column: Column, nearest: Column) -> str:
    """Where something was measured, for a reader who has seen the nearest column."""
    return "there" if column is nearest else f"on {column.table.data}, {100 * column.share:.3g} % kept"


def told(one: Expected) -> str:
    """`aum + ccs −7.3 points (−15.0 to +0.4), a tie`, where it was measured nearest."""
    column, cell = one.seen[0]
    interval = ends(column.table, cell)
    shown = f" ({interval})" if interval else ""
    return f"{one.arm.name} {points(column.table, cell.difference)}{shown}, {WORDS[cell.word]}"


def reasons(table: Table, cell: Cell) -> list[str]:
    """What was measured of the rows it kept, where that is not what random rows would have."""
    found = []
    if cell.wrong is not None and abs(cell.wrong - table.label_noise) > 0.1 * table.label_noise:
        found.append(f"{percent(cell.wrong)} of the labels it kept are wrong, of all rows {percent(table.label_noise)}")
    if cell.smallest is not None and cell.smallest < 0.5:
        found.append(f"its smallest class has {percent(cell.smallest)} of an equal part")
    return found
