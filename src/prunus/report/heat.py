"""The picture of many row methods: which beat the control, in a table of words and in a panel of curves for each.

It is drawn where a control over rows (random_balanced, else random) stands beside enough methods and budgets; Holm's correction
then runs over each table, and the arms in it appear in no other table of comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prunus.core.arms import Arm, arms, better_is, dense_of, is_quality, metrics
from prunus.core.results import Results
from prunus.measure.stats import Difference, Word, verdicts
from prunus.report.build import kept_share
from prunus.report.cost import SAMPLES, SELECTION, SIGNALS, TEACHER, TRAINING, break_even, full_training
from prunus.report.data import Heat, HeatCell, HeatRow, Panels, Point, Series
from prunus.report.settings import bare, first_and_rest, setting_of, shown
from prunus.report.verdicts import difference

LEAST = 8  # comparisons: below it the list of comparisons says it better
BASES = ("random_balanced", "random")

Column = tuple[str, str]


@dataclass
class Picture:
    """The arms over rows of one table: by name and column, with those they are compared with."""

    title: str
    found: dict[str, dict[Column, Arm]] = field(default_factory=dict[str, dict[Column, Arm]])
    dense: dict[Column, Arm] = field(default_factory=dict[Column, Arm])

    @property
    def columns(self) -> tuple[Column, ...]:
        """Settings in order of appearance, in each what is kept from much to little."""
        every = dict.fromkeys(column for cells in self.found.values() for column in cells)
        settings = list(dict.fromkeys(setting for setting, _ in every))
        return tuple(sorted(every, key=lambda column: (settings.index(column[0]), -(kept_share(column[1]) or 0.0))))

    @property
    def base(self) -> str:
        """Name of the control; "" where there is none."""
        return next((name for name in BASES if name in self.found), "")

    def samples(self) -> float:
        """Samples an arm is trained on, over those of training on everything; the mean over the arms that tell."""
        pairs = [(arm, self.dense.get(column)) for cells in self.found.values() for column, arm in cells.items()]
        told = [(arm.cost.get(SAMPLES), dense.cost.get(SAMPLES)) for arm, dense in pairs if dense is not None]
        return _mean(here / there for here, there in told if here and there)

    def comparisons(self) -> int:
        """How many cells there are to compare."""
        base = self.found.get(self.base, {})
        return sum(column in base for name, cells in self.found.items() if name != self.base for column in cells)


def pictures(results: Results) -> tuple[Picture, ...]:
    """The arms over rows, in a Picture for each training (equal steps, equal epochs), where there are enough of them.

    Those that were trained on most samples come first: what rows are worth before what they save.
    """
    found = arms(results)
    made: dict[str, Picture] = {}
    for arm in filter(_drawn, found):
        setting = setting_of(arm.against)
        first, rest = first_and_rest(setting)
        picture = made.setdefault(rest, Picture(shown(rest)))
        picture.found.setdefault(bare(arm.what, setting), {})[first, arm.budget] = arm
        if (dense := dense_of(arm, found)) is not None:
            picture.dense[first, arm.budget] = dense
    drawn = [picture for picture in made.values() if picture.base and picture.comparisons() >= LEAST]
    return tuple(sorted(drawn, key=lambda picture: -picture.samples()))


def _drawn(arm: Arm) -> bool:
    """Whether an arm only chooses rows: no cut after it, no teacher, no control made for one arm."""
    rows = arm.method.startswith("rows/") and " then " not in arm.method and kept_share(arm.budget) is not None
    return rows and not arm.dense and not arm.like and TEACHER not in arm.cost


def rest(results: Results, drawn: tuple[Picture, ...]) -> Results:
    """The rows of results that none of these pictures shows; dense arms are always among them."""
    there = {(arm.what, arm.budget) for p in drawn for cells in p.found.values() for arm in cells.values()}
    kept = tuple(row for row in results if (row.what, row.budget) not in there)
    return Results(kept, results.environment)


def quality(results: Results) -> str:
    """The first metric that tells how good a model is; "" where none does."""
    return next((name for name in metrics(results) if is_quality(name)), "")


def heats(results: Results, drawn: tuple[Picture, ...]) -> tuple[Heat, ...]:
    """One Heat for each picture; none where no metric tells how good a model is."""
    metric = quality(results)
    return tuple(_heat(results, picture, metric) for picture in drawn if metric)


def _heat(results: Results, picture: Picture, metric: str) -> Heat:
    base, columns = picture.found[picture.base], picture.columns
    gaps = {
        (name, column): gap
        for name, cells in picture.found.items()
        for column, arm in cells.items()
        if name != picture.base and column in base
        if (gap := difference(results, arm, base[column], metric)) is not None
    }
    better = "lower" if better_is(metric) == "lower" else "higher"
    words = dict(zip(gaps, verdicts(list(gaps.values()), better=better)))
    rows = []
    for name, cells in picture.found.items():
        if name == picture.base:
            continue
        made = tuple(
            _cell(cells[column], metric, gap, words[name, column], picture.dense.get(column))
            if (gap := gaps.get((name, column))) is not None
            else None
            for column in columns
        )
        rows.append(HeatRow(name, made, next(iter(cells.values())).control, in_trainings(cells, picture.dense)))
    sign = -1.0 if better == "lower" else 1.0
    rows.sort(key=lambda row: (-sign * _mean(cell.difference for cell in row.cells if cell), row.name))
    of_base, of_dense = ([_value(arms_.get(column), metric) for column in columns] for arms_ in (base, picture.dense))
    return Heat(metric, picture.base, picture.title, columns, tuple(rows), tuple(of_base), tuple(of_dense))


def _cell(arm: Arm, metric: str, gap: Difference, word: Word, dense: Arm | None) -> HeatCell:
    paid, _ = break_even(arm, full_training(arm, dense))
    return HeatCell(arm.numbers[metric].value, word, gap.mean, gap.interval, gap.pairs, paid)


def in_trainings(
    cells: Mapping[Column, Arm], dense: Mapping[Column, Arm], parts: tuple[str, ...] = (SIGNALS, SELECTION)
) -> float | None:
    """What must be spent before the first training on fewer rows, in trainings on all; the mean over the columns."""
    ratios = [
        sum(arm.cost.get(part, 0.0) for part in parts) / full
        for column, arm in cells.items()
        if arm.cost and column in dense and (full := dense[column].cost.get(TRAINING))
    ]
    return _mean(ratios) if ratios else None


def _value(arm: Arm | None, metric: str) -> float | None:
    return arm.numbers[metric].value if arm is not None and metric in arm.numbers else None


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def panels(drawn: tuple[Picture, ...], found: tuple[Heat, ...]) -> tuple[Panels, ...]:
    """Curves of every method beside those of the control, where there are two budgets or more; in the order of the heats."""
    return tuple(
        _panels(picture, [row.name for row in heat.rows], heat.metric)
        for picture, heat in zip(drawn, found)
        if len({budget for _, budget in picture.columns}) > 1
    )


def _panels(picture: Picture, names: list[str], metric: str) -> Panels:
    dense = {
        setting: value for (setting, _), arm in picture.dense.items() if (value := _value(arm, metric)) is not None
    }
    lines = tuple(_lines(picture.found[name], metric) for name in names)
    return Panels(
        metric, picture.base, picture.title, tuple(names), lines, _lines(picture.found[picture.base], metric), dense
    )


def _lines(cells: dict[Column, Arm], metric: str) -> tuple[Series, ...]:
    """A line for each setting, named by it."""
    points: dict[str, list[Point]] = {}
    for (setting, budget), arm in cells.items():
        share, number = kept_share(budget), arm.numbers.get(metric)
        if share is not None and number is not None:
            points.setdefault(setting, []).append(Point(share, number.value, number.interval))
    return tuple(Series(name, tuple(sorted(found, key=lambda p: p.kept))) for name, found in points.items())
