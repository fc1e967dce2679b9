"""Advice: what measurements nearest to a situation say of methods over rows, in figures and in words, and what to beware of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prunus.advise import measured
from prunus.advise.asked import Asked, answer
from prunus.advise.cautions import of_cost, of_dynamic, of_place
from prunus.advise.lookup import PLAIN, Column, Expected, expected, nearest
from prunus.advise.measured import Table
from prunus.advise.probe import Situation
from prunus.advise.words import place, points, reasons
from prunus.core.errors import BadInput

SHORT = 4
Equal = Literal["steps", "epochs"]


@dataclass(frozen=True)
class Advice:
    """The answer.

    Attributes:
        situation: what was looked up.
        equal: steps or epochs; trainings: how many on what is kept are planned.
        columns: the measurements nearest to it.
        ranked: every method with what to expect, best first, those that lost last.
        shortlist: those worth a try; empty where nothing is.
        lead: the advice in a sentence; answer: what is known of the method asked for, "" where none was.
        warnings: what speaks against it, or against the method asked for.
    """

    situation: Situation
    equal: str
    trainings: float
    columns: tuple[Column, ...]
    ranked: tuple[Expected, ...]
    shortlist: tuple[Expected, ...]
    lead: str
    answer: str
    warnings: tuple[str, ...]

    @property
    def control(self) -> str:
        """What methods are compared with."""
        return self.columns[0].table.control

    def __str__(self) -> str:
        from prunus.advise.text import render

        return render(self)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "situation": {**asdict(self.situation), "have": sorted(self.situation.have), "share": self.situation.share},
            "equal": self.equal, "trainings": self.trainings, "control": self.control, "lead": self.lead, "answer": self.answer,
            "warnings": list(self.warnings), "shortlist": [one.arm.name for one in self.shortlist],
            "measured": [_column(column) for column in self.columns],
            "methods": [_plain(one) for one in self.ranked],
        }  # fmt: skip


def advise(
    situation: Situation,
    *,
    asked: Asked | None = None,
    equal: Equal = "epochs",
    trainings: float = 1,
    tables: Sequence[Table] | None = None,
) -> Advice:
    """Look a situation up.

    Args:
        situation: from `probe.look`.
        asked: a method to warn of where it lost.
        equal: what training on what is kept gets as much of as training on all rows: epochs save time, steps do not.
        trainings: how many trainings on what is kept are planned; decides whether signals pay.
        tables: measured ones; default those of the package.

    Raises:
        BadInput: there are no tables for `equal`, or the number of trainings is not above 0.
        UnknownName: no such method or selector, or an option that the selector does not have.
    """
    if not trainings > 0:
        raise BadInput(f"trainings counts those planned on what is kept, above 0, not {trainings}")
    columns = nearest(measured.read() if tables is None else tables, situation, equal)
    if not columns:
        raise BadInput(f"nothing was measured at equal {equal}: epochs or steps")
    ranked = expected(columns, situation, equal)
    able = [one for one in ranked if not one.loses and one.difference > 0 and one.arm.name not in PLAIN]
    shortlist = tuple(sorted(able, key=lambda one: not one.wins)[:SHORT])
    told, same, warned = answer(asked, ranked, columns[0], labelled=situation.classes > 0) if asked else ("", [], [])
    warnings = (
        *warned,
        *of_cost([*shortlist, *same], trainings, equal),
        *of_place(situation, columns),
        *of_dynamic(shortlist),
    )
    lead = _lead(shortlist, columns, trainings, situation.classes > 0)
    return Advice(situation, equal, trainings, columns, ranked, shortlist, lead, told, warnings)


def _lead(shortlist: Sequence[Expected], columns: Sequence[Column], trainings: float, labelled: bool) -> str:
    table = columns[0].table
    winners = [one for one in shortlist if one.wins]
    if not winners:
        candidates = ", ".join(one.arm.name for one in shortlist)
        hope = f"; worth a try with --verify: {candidates}" if candidates else ""
        plain = table.control if labelled else "random"
        return f"keep {plain} rows: nothing beat {table.control} where it was measured nearest to this{hope}"
    best = winners[0]
    column, cell = best.first("better")
    lead = "; ".join([_won(best, columns[0]), *reasons(column.table, cell)])
    if best.break_even <= trainings:
        return lead
    cheap = next((one for one in winners if one.break_even <= trainings), None)
    return (
        f"{lead}; but see what its signals cost"
        if cheap is None
        else f"{lead}; for less work before, {_won(cheap, columns[0])}"
    )


def _won(one: Expected, nearest: Column) -> str:
    """`rs2 beat random_balanced by 9.4 points there`."""
    column, cell = one.first("better")
    gain = points(column.table, cell.difference).lstrip("+−")
    return f"{one.arm.name} beat {column.table.control} by {gain} {place(column, nearest)}"


def _column(column: Column) -> Mapping[str, Any]:
    table = {name: value for name, value in asdict(column.table).items() if name not in ("arms", "budgets", "base")}
    return {
        **table,
        "share": column.share,
        "base": column.table.base[column.place],
        "distance": column.distance,
    }


def _plain(one: Expected) -> Mapping[str, Any]:
    cell = one.nearest
    return {
        "name": one.arm.name, "method": one.arm.method, "select": one.arm.select,
        "method_options": dict(one.arm.method_options), "select_options": dict(one.arm.select_options),
        "needs": list(one.arm.needs), "missing": list(one.missing), "upfront": one.upfront,
        "signals": one.arm.signals, "selection": one.arm.selection,
        "break_even": one.break_even if math.isfinite(one.break_even) else None, "expected": one.difference,
        "word": cell.word, "difference": cell.difference, "interval": cell.interval, "wrong": cell.wrong,
        "smallest": cell.smallest, "loses": one.loses, "behind": one.behind,
        "measured_in": [column.table.run for column, _ in one.seen],
    }  # fmt: skip
