"""The curves of many methods as an SVG file of its own, for a page of documentation: it follows light and dark by itself."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from prunus.core.errors import BadInput
from prunus.report.data import ReportData
from prunus.report.panel_chart import panels_chart
from prunus.report.svg import VARIABLES

SANS = "system-ui, sans-serif"


def render(data: ReportData) -> str:
    """The first panels of a report, wide.

    Raises:
        BadInput: the report has no panels: too few methods over rows, or one budget only.
    """
    if not data.panels:
        raise BadInput(
            "a figure of many methods needs 8 comparisons over rows with random_balanced, at two budgets or more"
        )
    drawing = panels_chart(data.panels[0], "curves", legend=True)["wide"]
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
    body = drawing.replace('<svg aria-hidden="true" focusable="false" ', head, 1)
    start = body.index(">") + 1
    return f"{body[:start]}\n<style>{_style()}</style>{body[start:]}\n"


@cache
def _style() -> str:
    """The page's colours, light and dark, as variables of the drawing."""
    css = resources.files("prunus.report").joinpath("templates", "report.css").read_text("utf-8")
    light, dark = (dict(re.findall(r"(--[\w-]+):\s*(#[0-9a-f]{6})", block)) for block in css.split("@media", 2)[:2])
    used = sorted(set(VARIABLES.values()))
    rules = [";".join(f"{name}:{colours[name]}" for name in used) for colours in (light, dark)]
    return f"svg{{{rules[0]};background:var(--page);font-family:{SANS}}}@media(prefers-color-scheme:dark){{svg{{{rules[1]}}}}}"
