"""The HTML page: one file that loads nothing, for light and dark, wide and narrow, screen and paper."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from prunus import __version__
from prunus.core import files
from prunus.core.arms import arms, label, metrics, notes, show
from prunus.core.errors import require
from prunus.report import panel_chart, view
from prunus.report.charts import arms_chart, curve_chart, histogram_chart, look
from prunus.report.data import Curve, Histogram, Panels, ReportData, Series
from prunus.report.heat_view import heat_table
from prunus.report.selections_view import selections_table
from prunus.report.settings import shown
from prunus.report.svg import VARIABLES

MARKS = {
    "o": '<circle cx="15" cy="6" r="3.2" {}/>',
    "s": '<path d="M12 3h6v6h-6z" {}/>',
    "D": '<path d="M15 2l4 4-4 4-4-4z" {}/>',
    "^": '<path d="M15 2.4l3.8 6.6h-7.6z" {}/>',
    "v": '<path d="M15 9.6l3.8-6.6h-7.6z" {}/>',
    "P": '<path d="M13.7 2.5h2.6v2.2h2.2v2.6h-2.2v2.2h-2.6v-2.2h-2.2v-2.6h2.2z" {}/>',
}
LARGEST_ARMS_CHART = 16  # arms; beyond it the table says it better


def render(data: ReportData) -> str:
    """The whole page as a string; equal data give equal bytes."""
    markup = require("markupsafe", "report").Markup
    found, names = arms(data.results), metrics(data.results)
    tiles_of, tiles = view.tiles(data)
    cost_titles, costs = view.cost_table(data)
    shown = {
        "selections": None if data.selections is None else selections_table(data.selections),
        "heats": [heat_table(heat) for heat in data.heats],
        "panels": [_safe(markup, _panels(panels, f"panels{i}")) for i, panels in enumerate(data.panels)],
        "arms": view.arm_lines(data),
        "verdicts": [view.verdict_line(verdict) for verdict in data.verdicts],
        "curves": [_safe(markup, _curve(curve, f"curve{i}")) for i, curve in enumerate(data.curves)],
        "plans": [view.plan_view(plan) for plan in data.plans],
        "costs": costs,
        "bars": [view.bar_lines(bars) for bars in data.kept],
        "histograms": [_safe(markup, _histogram(h, f"scores{i}")) for i, h in enumerate(data.histograms)],
    }
    drawn = [] if data.curves or data.heats or not 1 < len(found) <= LARGEST_ARMS_CHART else _drawn(data)
    text = _template().render(
        **shown,
        data=data,
        css=markup(_packaged("report.css")),
        cost_titles=[name.capitalize() for name in cost_titles],
        tiles=tiles,
        tiles_of=tiles_of,
        warnings=data.warnings(),
        metrics=[label(name) for name in names],
        interval_note=view.interval_note(data),
        arm_charts=[
            _safe(markup, {**entry, "drawing": arms_chart(found, entry["metric"], f"arms{i}")})
            for i, entry in enumerate(drawn)
        ],
        sections=_sections(shown, data),
        notes=[*data.notes, *notes(found)],
        environment=view.environment(data),
        version=__version__,
    )
    return text + "\n"


def write(data: ReportData, path: str | Path) -> Path:
    """Render and write, whole or not at all."""
    return files.write_bytes(path, render(data).encode())


@cache
def _packaged(name: str) -> str:
    return resources.files("prunus.report").joinpath("templates", name).read_text("utf-8")


@cache
def _template() -> Any:
    jinja2 = require("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_unbroken)
    return environment.from_string(_packaged("report.html.j2"))


def _unbroken(value: Any) -> Any:
    """Keep a number and its percent sign on one line."""
    return value.replace(" %", "\u00a0%") if isinstance(value, str) else value


def _sections(shown: dict[str, Any], data: ReportData) -> list[tuple[str, str]]:
    """(id, name) of the sections that have something to show."""
    known = [
        ("picture", "Methods", shown["heats"]),
        ("selections", "Selections", shown["selections"]),
        ("results", "Results", shown["arms"]),
        ("verdicts", "Controls", shown["verdicts"]),
        ("curves", "Budget", shown["curves"]),
    ]
    known += [
        ("plans", "Plans", shown["plans"]),
        ("cost", "Cost", shown["costs"]),
        ("kept", "What stays", shown["bars"]),
    ]
    known += [
        ("scores", "Scores", shown["histograms"]),
        ("examples", "Examples", data.galleries),
        ("made", "How", True),
    ]
    return [(name, title) for name, title, filled in known if filled]


def _safe(markup: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """Our own drawings are markup; everything else stays text and is escaped."""
    drawing = {size: markup(svg) for size, svg in entry["drawing"].items()}
    legend = [{**key, "mark": markup(key["mark"])} for key in entry.get("legend", [])]
    return {**entry, "drawing": drawing, "legend": legend}


def _drawn(data: ReportData) -> list[dict[str, Any]]:
    """The metrics worth a chart: those that two arms or more have with an interval, else the first one."""
    found = arms(data.results)
    names = [
        name
        for name in metrics(data.results)
        if sum(bool(a.numbers.get(name) and a.numbers[name].interval) for a in found) > 1
    ]
    entries = []
    for name in names or list(metrics(data.results))[:1]:
        values = ", ".join(
            f"{arm.what} {arm.budget} {show(name, arm.numbers[name].value)}" for arm in found if name in arm.numbers
        )
        caption = "; ".join(filter(None, [view.direction(name), "controls are open circles, bars are 95 % intervals"]))
        entries.append(
            {
                "metric": name,
                "title": label(name),
                "label": f"{label(name)} of each arm: {values}",
                "caption": caption.capitalize() + ".",
            }
        )
    return entries


def _key(name: str, style: dict[str, Any], *, control: bool) -> dict[str, str]:
    """A line of a legend: its name, and how it is drawn."""
    colour = f"var({VARIABLES[str(style['color'])]})"
    dash = style["linestyle"][1] if isinstance(style["linestyle"], tuple) else ()
    fill = "var(--page)" if control else colour
    mark = MARKS[str(style["marker"])].format(f'fill="{fill}" stroke="{colour}" stroke-width="1.4"')
    return {"name": name, "colour": colour, "dash": " ".join(f"{1.8 * d:.1f}" for d in dash), "mark": mark}


def _named(line: Series) -> str:
    return f"{line.name} (control)" if line.control else line.name


def _panels(panels: Panels, name: str) -> dict[str, Any]:
    """The curves of many methods, with a legend of the settings and the control."""
    order = panel_chart.settings(panels)
    legend = [_key(shown(s) or "method", panel_chart.look(i), control=False) for i, s in enumerate(order)]
    legend += [
        _key(f"{panels.against} {shown(s)}".strip() + " (control)", panel_chart.look(i, control=True), control=True)
        for i, s in enumerate(order)
    ]
    title = f"{label(panels.metric)} against rows kept{', ' if panels.title else ''}{panels.title}"
    title = title[:1].upper() + title[1:]
    said = "; ".join(
        f"{method} {line.name}: " + ", ".join(f"{show(panels.metric, p.value)} at {p.kept:g} %" for p in line.points)
        for method, lines in zip(panels.names, panels.lines)
        for line in lines
    )
    caption = "Best mean difference first; bands are 95 % intervals, the dotted line is training on all rows."
    drawing = panel_chart.panels_chart(panels, name)
    return {"title": title, "label": f"{title}. {said}", "caption": caption, "legend": legend, "drawing": drawing}


def _curve(curve: Curve, name: str) -> dict[str, Any]:
    legend = [
        {**_key(line.name, style, control=line.control or line.expected), "name": _named(line)}
        for line, style in zip(curve.series, look(curve.series))
    ]
    ends = "; ".join(
        f"{line.name}: " + ", ".join(f"{show(curve.metric, p.value)} at {p.kept:g} %" for p in line.points)
        for line in curve.series
    )
    bands = any(point.interval for line in curve.series for point in line.points)
    said = [view.direction(curve.metric), "bands are 95 % intervals" if bands else "", *_knee(curve), curve.note]
    caption = "; ".join(filter(None, said))
    title = curve.title or f"{label(curve.metric)} against {label(curve.quantity or 'units')} kept"
    title = title[:1].upper() + title[1:]
    drawing = curve_chart(curve, name)
    return {
        "title": title,
        "label": f"{title}. {ends}",
        "caption": caption[:1].upper() + caption[1:] + ".",
        "legend": legend,
        "drawing": drawing,
    }


def _knee(curve: Curve) -> list[str]:
    return [] if curve.knee is None else [f"the knee is at {curve.knee:.3g} % kept"]


def _histogram(histogram: Histogram, name: str) -> dict[str, Any]:
    kept, dropped = (show("samples", sum(counts)) for counts in (histogram.kept, histogram.dropped))
    label = (
        f"{histogram.title}: {kept} kept, {dropped} dropped, from {histogram.edges[0]:.4g} to {histogram.edges[-1]:.4g}"
    )
    drawing = histogram_chart(histogram, name)
    return {"title": histogram.title, "label": label, "kept": kept, "dropped": dropped, "drawing": drawing}
