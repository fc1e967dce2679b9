"""The report as Markdown: tables for a pull request or a results page. Charts are left to the HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.arms import arms, metrics, notes
from prunus.report import view
from prunus.report.data import ReportData, Selections
from prunus.report.heat_view import heat_table
from prunus.report.selections_view import selections_table


def table(head: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; pipes in cells are escaped, line breaks become spaces."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(str(text).split()).replace("|", "\\|") for text in cells) + " |"

    rule = "|" + "|".join("---:" if i in right else "---" for i in range(len(head))) + "|"
    return "\n".join([line(head), rule, *(line(cells) for cells in lines)])


def render(data: ReportData) -> str:
    """The whole report; ends with a newline."""
    parts = [f"# {data.title}", data.summary, *(f"> {sentence}" for sentence in data.warnings())]
    for heat in map(heat_table, data.heats):
        parts += [f"## {heat['title']}", heat_lines(heat), heat["note"]]
    if data.selections is not None:
        parts += ["## Selections side by side", selections(data.selections)]
    if data.results.rows:
        parts += ["## Results", results(data), view.interval_note(data)]
    if data.verdicts:
        parts += ["## Against the controls", verdicts(data)]
    if data.plans:
        parts += ["## Asked, planned, got", plans(data)]
    titles, lines = view.cost_table(data)
    if lines:
        head = ["Arm", "Budget", *(name.capitalize() for name in titles), "Paid back"]
        cells = [[line["what"], line["budget"], *line["cells"], line["words"]] for line in lines]
        parts += ["## Cost and break-even", table(head, cells, right=range(2, 2 + len(titles)))]
    for bars in map(view.bar_lines, data.kept):
        lines = [[line["name"], line["kept"], line["size"], line["share"]] for line in bars["lines"]]
        parts += [f"## {bars['title'].capitalize()}", table(["Group", "Kept", "Of", "Share"], lines, right=range(1, 4))]
    parts += ["## How this was made", *data.notes, *notes(arms(data.results))]
    if data.command:
        parts.append(f"```console\n$ {data.command}\n```")
    if found := view.environment(data):
        parts.append(table(["What", "Value"], found))
    return "\n\n".join(part for part in parts if part) + "\n"


def heats(data: ReportData) -> str:
    """The tables of many methods alone, for a page that has a text of its own; "" without any."""
    parts = [part for heat in map(heat_table, data.heats) for part in (heat_lines(heat), heat["note"])]
    return "\n\n".join(parts) + "\n" if parts else ""


def heat_lines(heat: dict[str, Any]) -> str:
    """Methods down, budgets across; what wins or loses is bold."""
    more = [name for name in ("upfront", "paid") if heat[name]]
    head = [*heat["heads"], *({"upfront": "Work before", "paid": "Paid after"}[name] for name in more)]
    lines = [["all rows", *heat["dense"], *("" for _ in more)], [heat["against"], *heat["base"], *("" for _ in more)]]
    for line in heat["lines"]:
        name = f"{line['name']} (control)" if line["control"] else line["name"]
        lines.append([name, *map(_heat_cell, line["cells"]), *(line[part] for part in more)])
    return table(["Method", *head], lines, right=range(1, 1 + len(head)))


def _heat_cell(cell: dict[str, Any]) -> str:
    said = f"{cell['mark']} {cell['difference']}".strip()
    return f"**{said}**" if cell["word"] in ("better", "worse") else said


def selections(shown: Selections) -> str:
    """Metrics down, selections across; what stays of each class and cluster."""
    found = selections_table(shown)
    head = ["Metric", *(f"{one['name']}{' (control)' * one['control']}" for one in found["names"]), "Aim"]
    lines = [
        [line["name"], *map(_told, line["cells"]), line["aim"]] for group in found["groups"] for line in group["lines"]
    ]
    parts = [found["rows"] + ".", table(head, lines, right=range(1, len(head) - 1)), *found["overlaps"]]
    for bars in found["bars"]:
        columns = ["Group", " / ".join(bars["names"]), "Of"]
        rows = [[line["name"], line["kept"], line["size"]] for line in bars["lines"]]
        parts += [f"{bars['title']}:", table(columns, rows, right=range(1, 3))]
    return "\n\n".join(parts)


def _told(cell: dict[str, str]) -> str:
    return f"{cell['value']} ({cell['range']})" if cell["range"] else cell["value"]


def results(data: ReportData) -> str:
    """Arms down, metrics across."""
    names = metrics(data.results)
    lines = []
    for arm in view.arm_lines(data):
        cells = [
            f"{cell['value']} ({cell['interval']})" if cell["interval"] else cell["value"] for cell in arm["cells"]
        ]
        flag = f" **{arm['flag']}**" if arm["flag"] else ""
        lines.append([arm["what"], arm["budget"] + flag, arm["role"], *cells])
    return table(["Arm", "Budget", "Role", *names], lines, right=range(3, 3 + len(names)))


def verdicts(data: ReportData) -> str:
    """One line a comparison."""
    lines = [
        [
            line["what"],
            line["budget"],
            line["against"],
            line["metric"],
            f"{line['difference']} ({line['interval']})",
            line["word"],
        ]
        for line in map(view.verdict_line, data.verdicts)
    ]
    return table(["Arm", "Budget", "Against", "Metric", "Difference", "Verdict"], lines, right=[4])


def plans(data: ReportData) -> str:
    """A line for each quantity of each plan."""
    lines = []
    for plan in map(view.plan_view, data.plans):
        for line in plan["lines"]:
            both = [
                " ".join(filter(None, [line[name], f"({share})" if (share := line.get(f"{name}_share")) else ""]))
                for name in ("planned", "got")
            ]
            lines.append([plan["name"], plan["asked"], line["quantity"], line["dense"], *both])
    return table(["Plan", "Asked", "Quantity", "Dense", "Planned", "Got"], lines, right=range(3, 6))


def write(data: ReportData, path: str | Path) -> Path:
    """Render and write, whole or not at all."""
    return files.write_bytes(path, render(data).encode())
