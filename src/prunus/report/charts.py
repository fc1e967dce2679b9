"""The three charts of a report: a metric against what is kept, arms with their intervals, and scores of kept and dropped units.

Lines differ by marker and dash as well as by colour, so they can be told apart without seeing colours. Controls are grey and dashed.
"""

from __future__ import annotations

from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from prunus.core.arms import Arm, is_share, label, show
from prunus.report.data import Curve, Histogram, Series
from prunus.report.svg import CONTROL, DROPPED, INK, KEPT, MUTED, PAGE, SERIES, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "D", "^", "v", "P")
CONTROL_MARKERS = ("o", "s", "^", "D")
MOST_TICKS = 8
RATIOS = (0.125, 0.25, 0.5, 0.7, 1, 1.4, 2, 4, 8, 16)
DASHES = ((0, (4, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)))


def style(place: int, *, control: bool = False, dashed: bool = False) -> dict[str, Any]:
    """Colour, marker and dash of a line: controls are grey and dashed, the others too are dashed after the first if asked."""
    dash = DASHES[place % len(DASHES)] if control or (dashed and place) else "-"
    if control:
        mark = CONTROL_MARKERS[place % len(CONTROL_MARKERS)]
        return {"color": CONTROL, "marker": mark, "linestyle": dash, "markerfacecolor": PAGE}
    colour = SERIES[place % len(SERIES)]
    return {"color": colour, "marker": MARKERS[place % len(MARKERS)], "linestyle": dash, "markerfacecolor": colour}


def look(series: tuple[Series, ...]) -> list[dict[str, Any]]:
    """Colour, marker and dash of each line, the same in the chart and in its legend."""
    looks: list[dict[str, Any]] = []
    methods = controls = 0
    for line in series:
        if line.control or line.expected:
            looks.append(style(controls, control=True))
            controls += 1
        else:
            looks.append(style(methods))
            methods += 1
    return looks


def curve_chart(curve: Curve, name: str) -> dict[str, str]:
    """A metric against the share kept, with bands for the intervals and the dense value as a line across."""

    def paint(axes: Axes, narrow: bool) -> None:
        for line, style in zip(curve.series, look(curve.series)):
            x, y = [p.kept for p in line.points], [p.value for p in line.points]
            banded = [(p.kept, *p.interval) for p in line.points if p.interval]
            if len(banded) > 1:
                at, low, high = zip(*banded)
                axes.fill_between(at, low, high, color=style["color"], alpha=0.13, linewidth=0)
            axes.plot(x, y, zorder=2.4 if line.control else 2.6, clip_on=False, **style)  # type: ignore[arg-type]
        _dense_line(axes, curve)
        if curve.knee is not None:
            axes.axvline(curve.knee, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
            axes.annotate("knee", (curve.knee, 0), (3, 4), ("data", "axes fraction"), "offset points", color=MUTED)
        axes.set_xlabel(f"{label(curve.quantity or 'units')} kept, %")
        places = sorted({p.kept for line in curve.series for p in line.points})
        if len(places) <= MOST_TICKS:
            axes.set_xticks(places, [f"{place:g}" for place in places])
        values = [p.value for line in curve.series for p in line.points]
        if curve.ratio:
            _ratio_ticks(axes, values)
        else:
            metric_ticks(axes, curve.metric, values)
            axes.locator_params(axis="y", nbins=5 if narrow else 9)

    return draw(paint, name)


def _ratio_ticks(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis, so that half and twice are equally far from 1."""
    axes.set_yscale("log")
    axes.minorticks_off()
    places = [ratio for ratio in RATIOS if 0.9 * min(values, default=1) <= ratio <= 1.1 * max(values, default=1)]
    axes.set_yticks(places, [f"{place:g}" for place in places])


def _dense_line(axes: Axes, curve: Curve) -> None:
    if curve.dense is None:
        return
    axes.axhline(curve.dense, color=INK, linewidth=1.0, zorder=2.2)
    axes.annotate(curve.level, (0.0, curve.dense), (0, 3), ("axes fraction", "data"), "offset points", color=INK)


def metric_ticks(axes: Axes, metric: str, values: list[float], which: str = "y") -> None:
    """Numbers on the axis in the metric's own unit: percent for shares of one."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    if values and all(is_share(metric, value) for value in values):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.6g} %")
    elif metric.endswith("_ms"):
        axis.set_major_formatter("{x:g} ms")
    else:
        axis.set_major_formatter(lambda value, _: show(metric, value))


def arms_chart(arms: tuple[Arm, ...], metric: str, name: str) -> dict[str, str]:
    """One line an arm: the value, its interval, and the dense value as a line down."""
    found = [arm for arm in arms if metric in arm.numbers][::-1]
    dense = next((arm.numbers[metric].value for arm in found if arm.dense), None)

    names = {"wide": _names(found, 34), "narrow": _names(found, 17)}
    heights = {
        size: 0.7 + len(found) * max(0.36, 0.1 + 0.17 * max(n.count("\n") + 1 for n in texts))
        for size, texts in names.items()
    }

    def paint(axes: Axes, narrow: bool) -> None:
        for place, arm in enumerate(found):
            number = arm.numbers[metric]
            colour = INK if arm.dense else CONTROL if arm.control else SERIES[0]
            if number.interval:
                axes.plot(
                    number.interval, (place, place), color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="butt"
                )
            axes.plot(number.value, place, "o", color=colour, markerfacecolor=PAGE if arm.control else colour, zorder=3)
        if dense is not None:
            axes.axvline(dense, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        axes.set_yticks(range(len(found)), names["narrow" if narrow else "wide"])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(-0.6, len(found) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        metric_ticks(axes, metric, [arm.numbers[metric].value for arm in found], "x")
        axes.locator_params(axis="x", nbins=3 if narrow else 7)
        axes.margins(x=0.08)

    return draw(paint, name, heights=heights)


def _names(found: list[Arm], width: int) -> list[str]:
    """Arms as tick labels, wrapped; the budget is left out where all share it."""
    shared = len({arm.budget for arm in found if arm.budget}) < 2
    return ["\n".join(wrap(arm.what if shared else f"{arm.what} {arm.budget}", width)) for arm in found]


def histogram_chart(histogram: Histogram, name: str) -> dict[str, str]:
    """Kept and dropped units over the score, dropped ones hatched and stacked on top."""

    def paint(axes: Axes, narrow: bool) -> None:
        edges = histogram.edges
        widths = [right - left for left, right in pairwise(edges)]
        share: dict[str, Any] = {"width": widths, "align": "edge", "linewidth": 0.5, "edgecolor": PAGE}
        axes.bar(edges[:-1], histogram.kept, color=KEPT, **share)
        axes.bar(edges[:-1], histogram.dropped, bottom=histogram.kept, color=DROPPED, hatch="////", alpha=0.85, **share)
        axes.set_xlabel(histogram.score)
        axes.yaxis.set_major_formatter(
            lambda value, _: show("count", value) if value < 1e4 else show("units_samples", value)
        )
        if narrow:
            axes.locator_params(axis="both", nbins=5)

    return draw(paint, name)
