"""The report for a terminal: the results table, the verdicts, and what a reader must know, in plain text."""

from __future__ import annotations

from typing import Any

from prunus.core.arms import arms
from prunus.core.table import NO_CONTROL, columns, results_table
from prunus.report import view
from prunus.report.data import MASKED, ReportData, Selections
from prunus.report.heat_view import heat_table
from prunus.report.selections_view import selections_table

MOST_LINES = 10


def render(data: ReportData) -> str:
    """Title, table, comparisons, plans, costs, sentences; ends with a newline."""
    parts = [data.title, "=" * len(data.title)]
    if data.summary:
        parts += [data.summary, ""]
    for heat in map(heat_table, data.heats):
        parts += ["", heat["title"], heat_lines(heat), heat["note"]]
    if data.selections is not None:
        parts += ["", selections_lines(data.selections)]
    if data.results.rows:
        parts += ["", results_table(data.results)]
    if data.verdicts:
        parts += ["", verdict_table(data)]
    if data.plans:
        parts += ["", plan_table(data)]
    titles, lines = view.cost_table(data)
    if lines:
        cells = [[line["what"], line["budget"], *line["cells"], line["words"]] for line in lines]
        parts += ["", columns(["arm", "budget", *titles, "paid back"], cells, right=range(2, 2 + len(titles)))]
    parts += ["", *([MASKED] if data.masked else []), *data.notes]
    if data.command:
        parts += [f"made by: {data.command}"]
    return "\n".join(parts).rstrip() + "\n"


def heat_lines(heat: dict[str, Any]) -> str:
    """Methods down, budgets across."""
    head = ["method", *heat["heads"], "work before"]
    lines = [["all rows", *heat["dense"], ""], [heat["against"], *heat["base"], ""]]
    lines += [
        [line["name"], *(f"{cell['mark']} {cell['difference']}".strip() for cell in line["cells"]), line["upfront"]]
        for line in heat["lines"]
    ]
    return columns(head, lines, right=range(1, len(head)))


def selections_lines(shown: Selections) -> str:
    """Metrics down, selections across, overlaps under them."""
    found = selections_table(shown)
    head = ["metric", *(one["name"] for one in found["names"]), "aim"]
    lines = [
        [line["name"], *(f"{cell['value']} [{cell['range']}]" if cell["range"] else cell["value"] for cell in line["cells"]), line["aim"]]
        for group in found["groups"]
        for line in group["lines"]
    ]  # fmt: skip
    return "\n".join([columns(head, lines, right=range(1, len(head) - 1)), *found["overlaps"]])


def verdict_table(data: ReportData) -> str:
    """One line a comparison: `el2n + ccs 30% rows is better than random on accuracy: +1.30 points [0.50 to 2.10]`."""
    lines = []
    for verdict in map(view.verdict_line, data.verdicts):
        difference = f"{verdict['difference']} [{verdict['interval']}]"
        lines.append(
            [verdict["what"], verdict["budget"], verdict["metric"], difference, verdict["word"], verdict["against"]]
        )
    return columns(["arm", "budget", "metric", "difference", "verdict", "against"], lines, right=[3])


def plan_table(data: ReportData) -> str:
    """Asked, planned and got of every plan, a line for each quantity."""
    lines = []
    for plan in map(view.plan_view, data.plans):
        for number, line in enumerate(plan["lines"]):
            first = [plan["name"], plan["asked"]] if number == 0 else ["", ""]
            lines.append([*first, line["quantity"], line["dense"], line["planned"], line["got"]])
    return columns(["plan", "asked", "quantity", "dense", "planned", "got"], lines, right=range(3, 6))


def summary(data: ReportData) -> str:
    """At most ten lines for the end of a command: dense, pruned, controls; with the sentences a reader must not miss."""
    kept = [arm for arm in arms(data.results) if arm.role != "control"][: MOST_LINES - 2]
    controls = [arm for arm in arms(data.results) if arm.role == "control"][: max(MOST_LINES - len(kept), 1)]
    chosen = {(arm.what, arm.budget) for arm in [*kept, *controls]}
    rows = tuple(row for row in data.results if (row.what, row.budget) in chosen)
    left = len(arms(data.results)) - len(chosen)
    table = results_table(type(data.results)(rows, data.results.environment))
    tail = [f"{left} more arms in the report"] if left else []
    tail += [MASKED] if data.masked else []
    tail += [NO_CONTROL] if not any(row.control for row in data.results) and NO_CONTROL not in table else []
    return "\n".join([table, *tail])
