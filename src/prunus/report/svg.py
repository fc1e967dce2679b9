"""Matplotlib figures as inline SVG that follows the page: its text, its colours, light and dark.

Figures are drawn in marker colours (INK, SERIES, ...) which become CSS variables here, so one drawing serves both colour schemes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prunus.core.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, PAGE, CONTROL = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = ("#0a0101", "#0a0202", "#0a0303", "#0a0404", "#0a0505", "#0a0606")
KEPT, DROPPED = SERIES[0], SERIES[1]
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAGE: "--page", CONTROL: "--control"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)
}
SIZES = {"wide": (7.6, 3.5), "narrow": (3.5, 2.9)}  # inches at 96 pixels: what a page and a phone show without scaling
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.left": False,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "hatch.linewidth": 0.8,
}


def draw(paint: Callable[[Axes, bool], None], name: str, *, heights: dict[str, float] | None = None) -> dict[str, str]:
    """Draw one chart for wide and for narrow pages.

    Args:
        paint: draws on the axes it is given; its second argument is True on the narrow one.
        name: prefix of the ids inside the SVG, unique on the page.
        heights: "wide" and "narrow" in inches, for charts that grow with their number of lines.

    Returns:
        "wide" and "narrow": an `<svg>` element each.
    """

    def alone(figure: Figure, narrow: bool) -> None:
        paint(figure.add_subplot(), narrow)

    return draw_figure(alone, name, heights=heights)


def draw_figure(
    paint: Callable[[Figure, bool], None], name: str, *, heights: dict[str, float] | None = None
) -> dict[str, str]:
    """The same for figures that hold several axes; `paint` adds them."""
    plot = require("matplotlib", "report")
    figure_of = require("matplotlib.figure", "report").Figure
    drawings = {}
    for size, (across, up) in SIZES.items():
        with plot.rc_context(STYLE | {"svg.hashsalt": f"{name}-{size}"}):
            figure = figure_of(figsize=(across, (heights or {}).get(size, up)), layout="constrained")
            figure.patch.set_visible(False)
            paint(figure, size == "narrow")
            for axes in figure.axes:
                axes.patch.set_visible(False)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        drawings[size] = inline(buffer.getvalue(), f"{name}-{size}")
    return drawings


def inline(document: str, prefix: str) -> str:
    """An SVG document as an element of an HTML page: no header, page fonts, page colours, ids of its own."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns:xlink|xmlns|version)="[^"]*"', "", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # its rules would reach the whole page
    text = re.sub(
        r'<svg\s([^>]*?)width="[\d.]+pt"\s+height="[\d.]+pt"', r'<svg aria-hidden="true" focusable="false" \1', text
    )
    text = re.sub(r"font-family: [^;\"]+; ", "", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.strip()
