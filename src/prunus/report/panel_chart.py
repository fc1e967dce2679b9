"""Curves of many methods: a small chart for each over common axes, the control grey in all of them.

Settings (clean, noisy) differ by colour, marker and dash.
"""

from __future__ import annotations

from itertools import chain
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from prunus.report.charts import metric_ticks, style
from prunus.report.data import Panels, Series
from prunus.report.svg import INK, draw_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = {"wide": 4, "narrow": 2}
TALL = {"wide": 1.55, "narrow": 1.5}  # inches of one row of charts
FOOT = 0.35  # inches for what stands below
WIDEST = 23  # characters of a chart's name on one line


def settings(panels: Panels) -> tuple[str, ...]:
    """The settings that have a line, in order."""
    return tuple(dict.fromkeys(line.name for line in chain(panels.base, *panels.lines)))


def look(place: int, *, control: bool = False) -> dict[str, Any]:
    """Colour, marker and dash of the line of a setting, in the chart and in its legend."""
    return style(place, control=control, dashed=True)


def panels_chart(panels: Panels, name: str, *, legend: bool = False) -> dict[str, str]:
    """The figure, for wide and for narrow pages; with a legend inside where no page has one beside it."""
    rows = {size: -(-len(panels.names) // across) for size, across in ACROSS.items()}
    two_lines = 0.17 * any(len(name) > WIDEST for name in panels.names)
    heights = {size: FOOT + 0.3 * legend + (TALL[size] + two_lines) * count for size, count in rows.items()}

    def paint(figure: Figure, narrow: bool) -> None:
        size = "narrow" if narrow else "wide"
        grid = figure.subplots(rows[size], ACROSS[size], sharex=True, sharey=True, squeeze=False)
        every = list(grid.flat)
        for axes, method, lines in zip(every, panels.names, panels.lines):
            _panel(axes, panels, method, lines)
        for axes in every[len(panels.names) :]:
            axes.set_visible(False)
        for axes in every[max(0, len(panels.names) - ACROSS[size]) : len(panels.names)]:
            axes.tick_params(axis="x", labelbottom=True)  # the last one of each column, though a hidden one lies below
        figure.supxlabel("rows kept, %", fontsize=9.5)
        if legend:
            _legend(figure, every[0], panels)

    return draw_figure(paint, name, heights=heights)


def _legend(figure: Figure, axes: Axes, panels: Panels) -> None:
    """A line for every setting, of a method and of the control, above the charts."""
    order = settings(panels)
    for control in (False, True):
        for place, setting in enumerate(order):
            name = panels.against if control else "method"
            label = f"{name}, {setting}" if setting else name
            axes.plot([], [], label=label, markersize=3.6, linewidth=1.4, **look(place, control=control))
    columns = min(4, 2 * len(order))
    figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=8.5, handlelength=2.6)


def _panel(axes: Axes, panels: Panels, method: str, lines: tuple[Series, ...]) -> None:
    order = settings(panels)
    for control, drawn in ((True, panels.base), (False, lines)):
        for line in drawn:
            looks = look(order.index(line.name), control=control)
            x, y = [p.kept for p in line.points], [p.value for p in line.points]
            banded = [(p.kept, *p.interval) for p in line.points if p.interval]
            if len(banded) > 1:
                at, low, high = zip(*banded)
                axes.fill_between(at, low, high, color=looks["color"], alpha=0.2 if not control else 0.12, linewidth=0)
            axes.plot(x, y, zorder=2.4 if control else 2.6, markersize=3.6, linewidth=1.4, **looks)
    for value in panels.dense.values():
        axes.axhline(value, color=INK, linewidth=0.7, zorder=2.2, linestyle=(0, (1, 2)))
    axes.set_title("\n".join(wrap(method, WIDEST)), fontsize=8.5, loc="left", pad=3)
    places = sorted({p.kept for line in panels.base for p in line.points})
    axes.set_xticks(places, [f"{place:g}" for place in places])
    values = [p.value for line in chain(panels.base, *panels.lines) for p in line.points]
    metric_ticks(axes, panels.metric, values)
    axes.locator_params(axis="y", nbins=4)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.12)
