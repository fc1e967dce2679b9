"""From a situation to the measurements nearest to it, and from those to what to expect of every method.

One column (a table at one budget) of each recipe is taken, its nearest, where it is at most one step farther than the nearest of
all. Each of these counts as one step apart: ten times as many rows of a class, half or twice the share kept, ten points more of
wrong labels. The steps are a choice, about what turns a verdict round in the tables, and no measurement.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prunus.advise.measured import Arm, Cell, Table
from prunus.advise.probe import Situation
from prunus.core import registry
from prunus.core.chain import find_selector
from prunus.core.registry import Method
from prunus.flow.labelled import needs_labels

KINDS = ("criterion", "dynamic")
NOISE_STEP = 0.1
BESIDE = 1.0  # steps by which a column may be farther than the nearest
FAR = 1.5  # steps beyond which the nearest measurement says little
PLAIN = ("random", "random_balanced")


@dataclass(frozen=True)
class Column:
    """A table at one of its budgets, and how far it is from a situation."""

    table: Table
    place: int
    distance: float

    @property
    def share(self) -> float:
        """Kept, in 0..1."""
        return self.table.budgets[self.place]

    @property
    def weight(self) -> float:
        """Halves with every step."""
        return 0.5**self.distance


@dataclass(frozen=True)
class Expected:
    """What to expect of one method.

    Attributes:
        arm: settings, needs and cost, from the nearest column that has it.
        seen: columns and cells, nearest first.
        missing: signals that are not at hand.
        upfront: trainings on all rows that selection, and signals if any is missing, cost.
        break_even: trainings on what is kept after which that is paid back; inf where it never is.
    """

    arm: Arm
    seen: tuple[tuple[Column, Cell], ...]
    missing: tuple[str, ...]
    upfront: float
    break_even: float

    @property
    def difference(self) -> float:
        """Mean over the columns, near ones counting more."""
        weights = [column.weight for column, _ in self.seen]
        return sum(w * cell.difference for w, (_, cell) in zip(weights, self.seen)) / sum(weights)

    @property
    def nearest(self) -> Cell:
        """The cell of the nearest column."""
        return self.seen[0][1]

    @property
    def loses(self) -> bool:
        """Whether it lost in the nearest column, or in another of them."""
        return any(cell.word == "worse" for _, cell in self.seen)

    @property
    def behind(self) -> bool:
        """Whether it lost, or would have if the nearest table held this comparison alone: its interval lies below 0."""
        ends = self.nearest.interval
        return self.loses or (ends is not None and ends[1] < 0)

    @property
    def wins(self) -> bool:
        """Whether it won in one of the columns and lost in none."""
        return not self.loses and any(cell.word == "better" for _, cell in self.seen)

    def first(self, word: str) -> tuple[Column, Cell]:
        """The nearest column and cell with this word, or the nearest of all."""
        return next((seen for seen in self.seen if seen[1].word == word), self.seen[0])


def nearest(tables: Iterable[Table], situation: Situation, equal: str) -> tuple[Column, ...]:
    """The nearest column of each recipe whose subsets got equal `steps` or `epochs`; nearest first, those far behind left out."""
    found: dict[str, Column] = {}
    for table in tables:
        if table.equal != equal:
            continue
        for place in range(len(table.budgets)):
            column = Column(table, place, distance(table, place, situation))
            if table.run not in found or column.distance < found[table.run].distance:
                found[table.run] = column
    ordered = sorted(found.values(), key=lambda column: (column.distance, column.table.run))
    return tuple(column for column in ordered if column.distance <= ordered[0].distance + BESIDE)


def distance(table: Table, place: int, situation: Situation) -> float:
    """Steps between a column and a situation; unknown label noise counts as none, and without classes all rows are compared."""
    share = table.budgets[place]
    rows = math.log10(share * table.rows / (table.classes if situation.classes else 1)) - math.log10(
        situation.per_class
    )
    kept = math.log2(share) - math.log2(situation.share)
    return math.hypot(rows, kept, (table.label_noise - (situation.noise or 0.0)) / NOISE_STEP)


def expected(columns: Sequence[Column], situation: Situation, equal: str) -> tuple[Expected, ...]:
    """Every method of the columns: those that lost last, the others by the difference to expect."""
    seen: dict[str, list[tuple[Column, Arm, Cell]]] = {}
    for column in columns:
        for arm in column.table.arms:
            if (cell := arm.cells[column.place]) is not None:
                seen.setdefault(key(arm), []).append((column, arm, cell))
    made = [_expected(found, situation, equal) for found in seen.values()]
    usable = [one for one in made if situation.classes or not any(map(needs_labels, methods_of(one.arm)))]
    return tuple(sorted(usable, key=lambda one: (one.loses, -one.difference, one.arm.name)))


def _expected(found: list[tuple[Column, Arm, Cell]], situation: Situation, equal: str) -> Expected:
    arm = found[0][1]
    missing = tuple(name for name in arm.needs if name not in situation.have)
    upfront = arm.selection + (arm.signals if missing else 0.0)
    saved = 1 - situation.share if equal == "epochs" else 0.0
    paid = 0.0 if upfront == 0 else upfront / saved if saved > 0 else math.inf
    return Expected(arm, tuple((column, cell) for column, _, cell in found), missing, upfront, paid)


def methods_of(arm: Arm) -> tuple[Method, ...]:
    """The criterion, or the method that chooses while training, and the selector where there is one."""
    method = registry.find(arm.method, unit="rows", kind=KINDS)
    return (method, find_selector(arm.select)) if arm.select else (method,)


def key(arm: Arm) -> str:
    """The same for the same method with the same settings, in whatever table, written out or left at their defaults."""
    method, *_ = methods_of(arm)
    settings = [method.id, {**_defaults(method), **arm.method_options}, arm.select, select_options(arm)]
    return json.dumps(settings, sort_keys=True, default=str)


def select_options(arm: Arm) -> dict[str, Any]:
    """Every option of an arm's selector, with the values it had."""
    return {**_defaults(find_selector(arm.select)), **arm.select_options} if arm.select else {}


def _defaults(method: Method) -> dict[str, Any]:
    return {option.name: option.default for option in method.options}
