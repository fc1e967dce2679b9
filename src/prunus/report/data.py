"""ReportData: everything a report shows, as plain values. Writers (text, markdown, page) are pure functions of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prunus.core.results import Results

MASKED = (
    "This model is masked: weights were set to zero, none was removed. Its size and its time are unchanged; "
    "apply the plan with mode='cut' to make it smaller."
)
NO_CONTROL = "No control was run: whether the method beats random units at the same count is not known."


@dataclass(frozen=True)
class PlanRow:
    """One plan: what was asked, what was planned, what was got.

    Attributes:
        name: of the arm.
        unit: rows, channels, ...
        asked: the budget's echo, both sides.
        planned: quantity -> number under the plan; dense: the same before; got: measured after applying.
        groups: how many groups; kept, total: units over all of them.
        method: id and options, as a person would type them.
    """

    name: str
    unit: str
    asked: str
    planned: Mapping[str, float] = field(default_factory=dict)
    dense: Mapping[str, float] = field(default_factory=dict)
    got: Mapping[str, float] = field(default_factory=dict)
    groups: int = 1
    kept: int = 0
    total: int = 0
    method: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the paired statistics say of one arm against another.

    Attributes:
        what, budget, metric: the arm and number it is about.
        against: the arm it is compared with.
        word: better, worse, below random or tie; chosen by measure, printed as it is.
        difference: mean paired difference, in the metric's unit.
        interval: its 95 % interval, or None where there are fewer than two pairs.
        pairs: how many seeds or rows were paired; 0 where not said.
    """

    what: str
    budget: str
    metric: str
    against: str
    word: str
    difference: float
    interval: tuple[float, float] | None
    pairs: int = 0


@dataclass(frozen=True)
class HeatCell:
    """One arm at one budget in one setting, against the control of its table.

    Attributes:
        value: mean over seeds; difference, interval, pairs: of the paired comparison, as in Verdict.
        word: better, worse or tie, Holm's correction running over the table.
        break_even: trainings after which signals and selection are paid back; None where they never are.
    """

    value: float
    word: str
    difference: float
    interval: tuple[float, float] | None
    pairs: int
    break_even: float | None = None


@dataclass(frozen=True)
class HeatRow:
    """A method over all columns of a Heat; `upfront`: signals and selection, in trainings on every row."""

    name: str
    cells: tuple[HeatCell | None, ...]
    control: bool = False
    upfront: float | None = None


@dataclass(frozen=True)
class Heat:
    """Which methods beat the control: methods down, budgets of every setting across.

    Attributes:
        metric: what is compared; against: name of the control; title: what the columns share, or "".
        columns: (setting, budget).
        rows: best mean difference first.
        base, dense: the control's own value in each column, and that of training on everything.
    """

    metric: str
    against: str
    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[HeatRow, ...]
    base: tuple[float | None, ...]
    dense: tuple[float | None, ...]


@dataclass(frozen=True)
class Panels:
    """One small chart for each method over common axes, where one chart would hold too many lines.

    Attributes:
        metric, against, title: as in Heat.
        names: of the panels, in order.
        lines: for each panel, its lines, one for each setting.
        base: the control's lines, drawn in every panel.
        dense: setting -> the value of training on everything.
    """

    metric: str
    against: str
    title: str
    names: tuple[str, ...]
    lines: tuple[tuple[Series, ...], ...]
    base: tuple[Series, ...]
    dense: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Point:
    """One point of a curve: share kept in percent, value, 95 % interval."""

    kept: float
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """A line of a curve. `control` draws it grey and dashed, and so does `expected`: from a theory, not measured."""

    name: str
    points: tuple[Point, ...]
    control: bool = False
    expected: bool = False


@dataclass(frozen=True)
class Curve:
    """A metric against what is kept.

    Attributes:
        metric: its name, which also tells the format and whether higher is better.
        series: methods and controls.
        quantity: what the x axis counts: rows, macs, ...
        dense: value of the dense arm, drawn as a horizontal line.
        knee: share kept in percent where the curve bends, or None.
        title, note: in place of what is made from the metric, and beside it; "" for none.
        level: what the horizontal line is called; ratio: the axis is logarithmic.
    """

    metric: str
    series: tuple[Series, ...]
    quantity: str = ""
    dense: float | None = None
    knee: float | None = None
    title: str = ""
    note: str = ""
    level: str = "dense"
    ratio: bool = False


@dataclass(frozen=True)
class KeptBars:
    """How much of each group stays: layers of a model, classes of a dataset."""

    title: str
    unit: str
    names: tuple[str, ...]
    kept: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Histogram:
    """Scores of kept and of dropped units over the same bins: `edges [bins + 1]`, `kept [bins]`, `dropped [bins]`."""

    title: str
    score: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as a `data:` URI, with a line of text (its id, its label)."""

    source: str
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Examples of what stays and what goes."""

    title: str
    kept: tuple[Thumbnail, ...]
    dropped: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Utility:
    """One metric of several selections.

    Attributes:
        metric: its name; aim: higher or lower where that is better, "" where it depends.
        values: one for each selection, None where it could not be measured.
        ranges: lowest and highest over the draws of a control, None for a single value.
    """

    metric: str
    aim: str
    values: tuple[float | None, ...]
    ranges: tuple[tuple[float, float] | None, ...]


@dataclass(frozen=True)
class SharedBars:
    """Rows of each group (class, cluster) under several selections: `kept [selections][groups]`, `sizes [groups]`."""

    title: str
    groups: tuple[str, ...]
    sizes: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Witness:
    """A dropped row, the kept row that is nearest to it, and how far that is."""

    dropped: Thumbnail
    kept: Thumbnail
    distance: float


@dataclass(frozen=True)
class Selections:
    """Selections of the same rows side by side.

    Attributes:
        names: plans first, then controls; plans: how many of them are plans.
        rows: how many rows the measured selections keep; of: all rows.
        utilities: (group, its metrics).
        overlaps: (one, other, rows in both, rows in either).
        bars: by class, by cluster.
        witnesses: (plan, dropped rows from the best to the worst covered).
        pictures: (title, examples), as "only in A".
    """

    names: tuple[str, ...]
    plans: int
    rows: int
    of: int
    utilities: tuple[tuple[str, tuple[Utility, ...]], ...]
    overlaps: tuple[tuple[str, str, int, int], ...] = ()
    bars: tuple[SharedBars, ...] = ()
    witnesses: tuple[tuple[str, tuple[Witness, ...]], ...] = ()
    pictures: tuple[tuple[str, tuple[Thumbnail, ...]], ...] = ()


@dataclass(frozen=True)
class ReportData:
    """A whole report.

    Attributes:
        title: one line.
        results: every measured row; arms and intervals are made from them.
        summary: one paragraph in words, or "".
        command: what was typed, word for word.
        headline: (what, budget) of the arm whose numbers open the page; default: that of the first verdict, else the last pruned arm.
        verdicts: from the paired statistics; those that a heat shows are left out.
        heats, panels: many methods over rows in several settings.
        selections: two plans over rows or more side by side.
        plans: one for each arm that has one.
        curves, kept, histograms, galleries: what is drawn; a section appears when it has something to show.
        masked: True when a model was applied with mode="mask".
        notes: what a reader must know.
        environment: name -> value, shown after that of the results.
    """

    title: str
    results: Results = field(default_factory=Results)
    summary: str = ""
    command: str = ""
    headline: tuple[str, str] | None = None
    verdicts: tuple[Verdict, ...] = ()
    heats: tuple[Heat, ...] = ()
    panels: tuple[Panels, ...] = ()
    selections: Selections | None = None
    plans: tuple[PlanRow, ...] = ()
    curves: tuple[Curve, ...] = ()
    kept: tuple[KeptBars, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    masked: bool = False
    notes: tuple[str, ...] = ()
    environment: Mapping[str, object] = field(default_factory=dict)

    def warnings(self) -> tuple[str, ...]:
        """The sentences every writer must print: masked model, no control."""
        found = [MASKED] if self.masked else []
        if self.results.rows and not any(row.control for row in self.results):
            found.append(NO_CONTROL)
        return tuple(found)
