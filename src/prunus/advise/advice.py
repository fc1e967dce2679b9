"""Advice: what measurements nearest to a situation say of methods over rows, in figures and in words, and what to beware of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prunus.advise import measured
from prunus.advise.lookup import FAR, PLAIN, Column, Expected, expected, key, nearest, select_options
from prunus.advise.measured import Table
from prunus.advise.probe import Situation
from prunus.core import registry
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput
from prunus.core.registry import Method

SHORT = 4
COPIES = 0.01
Equal = Literal["steps", "epochs"]


@dataclass(frozen=True)
class Asked:
    """A method that the user has in mind; `select` "" for the method's default, `options` those of the selector that were given."""

    method: str
    select: str = ""
    options: tuple[tuple[str, Any], ...] = ()


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
        UnknownName: no such method or selector.
    """
    if not trainings > 0:
        raise BadInput(f"trainings counts those planned on what is kept, above 0, not {trainings}")
    columns = nearest(measured.read() if tables is None else tables, situation, equal)
    if not columns:
        raise BadInput(f"nothing was measured at equal {equal}: epochs or steps")
    ranked = expected(columns, situation, equal)
    able = [one for one in ranked if not one.loses and one.difference > 0 and one.arm.name not in PLAIN]
    shortlist = tuple(sorted(able, key=lambda one: not one.wins)[:SHORT])
    same = [one for one in ranked if asked is not None and _is(one, asked)]
    answer, about_asked = _of_asked(asked, same, ranked, columns) if asked else ("", [])
    warnings = (
        *about_asked,
        *_of_cost([*shortlist, *same], trainings, equal),
        *_of_place(situation, columns),
        *_of_dynamic(shortlist),
    )
    lead = _lead(shortlist, columns, trainings, situation.classes > 0)
    return Advice(situation, equal, trainings, columns, ranked, shortlist, lead, answer, warnings)


def points(table: Table, value: float) -> str:
    """A difference in the table's unit."""
    share = table.metric == "accuracy"
    return (f"{100 * value:+.1f} points" if share else f"{value:+.3g} {table.metric}").replace("-", "−")


def _lead(shortlist: Sequence[Expected], columns: Sequence[Column], trainings: float, labelled: bool) -> str:
    table = columns[0].table
    winners = [one for one in shortlist if one.wins]
    if not winners:
        candidates = ", ".join(one.arm.name for one in shortlist)
        hope = f"; worth a try with --verify: {candidates}" if candidates else ""
        plain = table.control if labelled else "random"
        return f"keep {plain} rows: nothing beat {table.control} where it was measured nearest to this{hope}"
    best = winners[0]
    lead = f"{best.arm.name}: beat {table.control} by {points(table, best.nearest.difference)} where it was measured nearest to this"
    if best.break_even <= trainings:
        return lead
    cheap = next((one for one in winners if one.break_even <= trainings), None)
    if cheap is None:
        return f"{lead}, but see what its signals cost"
    return f"{lead}; {cheap.arm.name}, for less work before, by {points(table, cheap.nearest.difference)}"


def _of_asked(
    asked: Asked, same: Sequence[Expected], ranked: Sequence[Expected], columns: Sequence[Column]
) -> tuple[str, list[str]]:
    """What is known of the method asked for, and a warning where it, or others that keep the same end of their scores, lost."""
    if same:
        told = "; ".join(f"{one.arm.name} {_told(one)}" for one in same)
        return told, [_fate(one, columns[0]) for one in same if one.loses]
    method, select = chosen(asked)
    judges = method.facts.get("sense", "keep") != "keep"
    alike = [one for one in ranked if judges and _fits(one, select, asked) and _judges(one)]
    named = method.name if not select else select if method.name == "random" else f"{method.name} + {select}"
    told = f"{named} was not measured: --verify tries it"
    if lost := [one for one in alike if one.loses]:
        return told, [f"others that select as {named} does lost: {'. '.join(_fate(one, columns[0]) for one in lost)}"]
    near = ", ".join(f"{one.arm.name} {_told(one)}" for one in alike)
    return told + (f"; others that select alike: {near}" if near else ""), []


def _told(one: Expected) -> str:
    """`−7.3 points (−15.0 to +0.4), a tie`."""
    cell, table = one.nearest, one.seen[0][0].table
    ends = " to ".join(points(table, end).removesuffix(" points") for end in cell.interval or ())
    word = {"better": "a win", "worse": "a loss", "tie": "a tie"}[cell.word]
    return f"{points(table, cell.difference)}{f' ({ends})' if ends else ''}, {word}"


def _is(one: Expected, asked: Asked) -> bool:
    """Whether an arm is the method asked for."""
    method, select = chosen(asked)
    return one.arm.method in (method.name, method.id) and _fits(one, select, asked)


def chosen(asked: Asked) -> tuple[Method, str]:
    """The criterion (random where a selector alone is named) and the name of the selector, "" for methods that choose while training.

    Raises:
        UnknownName: no such method or selector.
    """
    method = registry.find(asked.method, unit="rows", kind=("criterion", "dynamic", "selector"))
    if method.kind == "selector":
        return registry.find("random", unit="rows", kind="criterion"), method.name
    if method.kind == "dynamic":
        return method, ""
    sense = method.facts.get("sense", "keep")
    name = asked.select or str(method.facts.get("select") or ("top" if sense == "keep" else "ccs"))
    return method, find_selector(name).name


def _judges(one: Expected) -> bool:
    """Whether the arm ranks rows by a score that says what is hard."""
    return (
        registry.find(one.arm.method, unit="rows", kind=("criterion", "dynamic")).facts.get("sense", "keep") != "keep"
    )


def _fits(one: Expected, select: str, asked: Asked) -> bool:
    """Whether an arm has the selector asked for, with the options asked for; `top` without an end keeps the hardest."""
    options = {**({"keep": "hardest"} if select == "top" else {}), **dict(asked.options)}
    own = select_options(one.arm) if one.arm.select == select else {}
    return one.arm.select == select and all(own.get(name) == value for name, value in options.items())


def _fate(one: Expected, nearest_to: Column) -> str:
    """`el2n_sum + top(keep=hardest) lost 54.3 points there; 61 % of the labels it keeps are wrong, 20 % of all`."""
    column, cell = next((column, cell) for column, cell in one.seen if cell.word == "worse")
    table = column.table
    lost = points(table, cell.difference).lstrip("−+")
    where = "there" if column is nearest_to else f"on {table.data}, {100 * table.budgets[column.place]:.3g} % kept"
    parts = [f"{one.arm.name} lost {lost} against {table.control} {where}"]
    if cell.wrong is not None and cell.wrong > table.label_noise * 1.1:
        parts.append(
            f"{100 * cell.wrong:.0f} % of the labels it kept are wrong, of all rows {100 * table.label_noise:.0f} %"
        )
    if cell.smallest is not None and cell.smallest < 0.5:
        parts.append(f"its smallest class has {100 * cell.smallest:.0f} % of an equal part")
    return "; ".join(parts)


def _of_cost(tried: Sequence[Expected], trainings: float, equal: str) -> list[str]:
    """Signals that cost more than the planned trainings save."""
    dear = {key(one.arm): one for one in tried if one.break_even > trainings}
    if not dear:
        return []
    if equal == "steps":
        return ["at equal steps training is not shorter: signals are a price for quality, and are never paid back"]
    low, high = (f(one.break_even for one in dear.values()) for f in (min, max))
    after = f"{low:.1f}" if high - low < 0.1 else f"{low:.1f} to {high:.1f}"
    names = ", ".join(one.arm.name for one in dear.values())
    planned = "1 training is" if trainings == 1 else f"{trainings:g} trainings are"
    return [
        f"signals cost more than they save: paid back after {after} trainings on what is kept, and {planned} planned ({names})"
    ]


def _of_place(situation: Situation, columns: Sequence[Column]) -> list[str]:
    """What makes the nearest measurements say little, and what to do first."""
    found, table = [], columns[0].table
    if columns[0].distance > FAR:
        found.append(
            f"the nearest measurement is far from this ({columns[0].distance:.1f} steps): take it as a hint, and run --verify"
        )
    if situation.noise is None and situation.classes:
        bound = "" if situation.noise_at_most is None else f" (at most {100 * situation.noise_at_most:.0f} %)"
        found.append(
            f"how many labels are wrong is not known{bound}, and none was assumed: give --noise, or --signals with an embedding "
            "that tells the classes apart"
        )
    if not situation.classes:
        found.append(
            "without labels only methods that go by embeddings are left, measured with embeddings of a labelled training"
        )
    if situation.imbalance is not None and situation.imbalance > 2 * table.imbalance:
        found.append(
            f"the largest class has {situation.imbalance:.1f} times the rows of the smallest, {table.imbalance:.1f} where it was "
            "measured: keep classes in proportion (within=class), or give them floors (--allocate)"
        )
    if situation.copies > COPIES:
        found.append(
            f"{100 * situation.copies:.1f} % of the rows are copies of others: let these go first (prunus check)"
        )
    return found


def _of_dynamic(shortlist: Sequence[Expected]) -> list[str]:
    """Methods that choose anew in every epoch keep nothing for good."""
    kinds = {
        one.arm.name: registry.find(one.arm.method, unit="rows", kind=("criterion", "dynamic")).kind
        for one in shortlist
    }
    return [
        f"{name} chooses rows anew in every epoch: all of them must stay at hand"
        for name in kinds
        if kinds[name] == "dynamic"
    ]


def _column(column: Column) -> Mapping[str, Any]:
    table = {name: value for name, value in asdict(column.table).items() if name not in ("arms", "budgets", "base")}
    return {
        **table,
        "share": column.table.budgets[column.place],
        "base": column.table.base[column.place],
        "distance": column.distance,
    }


def _plain(one: Expected) -> Mapping[str, Any]:
    cell = one.nearest
    return {
        "name": one.arm.name, "method": one.arm.method, "select": one.arm.select,
        "method_options": dict(one.arm.method_options), "select_options": dict(one.arm.select_options),
        "needs": list(one.arm.needs), "missing": list(one.missing), "upfront": one.upfront,
        "break_even": one.break_even if math.isfinite(one.break_even) else None, "expected": one.difference,
        "word": cell.word, "difference": cell.difference, "interval": cell.interval, "wrong": cell.wrong,
        "smallest": cell.smallest, "loses": one.loses, "measured_in": [column.table.run for column, _ in one.seen],
    }  # fmt: skip
