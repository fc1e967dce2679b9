"""Pages made from the source tree, as a hook of mkdocs: nothing generated is ever committed.

One page for each method (module docstring, decorator, options), the catalogue, the API reference, and the navigation.
No method is imported: the registry reads source text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from prunus.core import registry
from prunus.core.registry import Method, Option
from prunus.core.taxonomy import AXES, KERNELS, place

ROOT = Path(__file__).resolve().parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "src" / "prunus"
SECTIONS = ("Removes", "Needs", "Cost", "Departures")
TITLES = {
    "rows": "Rows",
    "pairs": "Pairs",
    "tables": "Tables",
    "weights": "Weights",
    "channels": "Channels",
    "layers": "Layers",
    "ranks": "Ranks",
    "experts": "Experts",
    "tokens": "Tokens",
    "select": "Selectors",
    "compensate": "Compensators",
    "allocate": "Allocators",
    "schedule": "Schedules",
    "signals": "Signals",
    "recovery": "Recovery",
    "measure": "Measures",
}
LONGEST_TITLE = 36
MOST_ROWS = 10
EXAMPLES = {
    "criterion": {
        "rows": 'score = px.score(train, "{id}", signals=signals)\nplan = px.plan(score, "30% rows")',
        "channels": 'plan = px.plan(net, "{id}", "50% macs", data=calibration)',
        "weights": 'plan = px.plan(net, "{id}", "50% weights", data=calibration)',
        "layers": 'plan = px.plan(net, "{id}", "drop 6 layers", data=calibration)',
    },
    "selector": {"": 'plan = px.plan(score, "30% rows", select="{name}")'},
    "compensator": {"": 'plan = px.plan(net, "taylor", "50% macs", data=calibration, compensate="{name}")'},
    "search": {
        "channels": 'plan = px.plan(net, "{id}", "50% macs", data=rows, example=x)',
        "layers": 'plan = px.plan(net, "{id}", "drop 6 layers", data=texts)',
        "ranks": 'plan = px.plan(net, "{id}", "60% params", data=rows, example=x)',
    },
    "solver": {
        "weights": 'plan = px.plan(net, "{id}", "50% weights", data=calibration)',
        "ranks": 'plan = px.plan(net, "{id}", "60% params", data=calibration)',
    },
}


def pages() -> dict[str, str]:
    """Path under docs/ -> Markdown, for every generated page."""
    methods = registry.methods()
    made = {f"methods/{method.id}.md": method_page(method) for method in methods}
    made["methods/index.md"] = catalogue_page(methods)
    made["methods/taxonomy.md"] = taxonomy_page(methods)
    made |= {f"reference/{room}.md": reference_page(room) for room in documented_rooms()}
    made["reference/index.md"] = reference_index()
    made["decisions/index.md"] = decisions_page()
    made["results/index.md"] = results_page()
    made["contributing.md"] = (ROOT / "CONTRIBUTING.md").read_text("utf-8").replace("](docs/", "](")
    made["changelog.md"] = (ROOT / "CHANGELOG.md").read_text("utf-8")
    return made


def title(method: Method) -> str:
    """A page's title: what stands before the colon of the first line, where that is short, else the name."""
    name, colon, _ = method.paper.partition(":")
    return name if colon and len(name) <= LONGEST_TITLE else method.name.replace("_", " ").capitalize()


def prose(text: str) -> str:
    """Words of a docstring as Markdown: outside backticks a star is a star and an angle is an angle."""
    parts = text.split("`")
    parts[::2] = [part.replace("*", "\\*").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def cell(text: str) -> str:
    """Prose in a table."""
    return prose(text).replace("|", "&#124;")


def method_page(method: Method) -> str:
    """One method: what it is, what it removes, needs, costs, where it departs, its options, how it is called."""
    what = method.paper.removeprefix(f"{title(method)}:").strip()
    parts = [f"# {prose(title(method))}", prose(what[:1].upper() + what[1:])]
    facts = [_definition("Id", f"`{method.id}`"), _definition("Kind", method.kind), *_facts(method)]
    parts.append('<div class="facts" markdown>\n\n' + "\n\n".join(facts) + "\n\n</div>")
    example = EXAMPLES.get(method.kind, {})
    if code := example.get(method.unit) or example.get(""):
        parts.append("```python\nimport prunus as px\n\n" + code.format(id=method.id, name=method.name) + "\n```")
    told = {name: method.section(name) for name in SECTIONS}
    parts += [f"## {name}\n\n{prose(text[:1].upper() + text[1:])}" for name, text in told.items() if text]
    if rest := _rest(method):
        parts.append(f"## Notes\n\n{prose(rest)}")
    if found := measured(method):
        parts.append("## Measured\n\n" + found)
    if method.options:
        parts.append("## Options\n\n" + _options(method.options))
    if method.card:
        held = f"Held by `tests/golden/test_{method.card.replace('-', '_')}.py`: cases that the authors' own code produced."
        parts.append("## Golden cases\n\n" + (held if method.golden else "Not yet held by a golden case."))
    source = method.path.relative_to(ROOT) if method.path.is_relative_to(ROOT) else method.path.name
    parts.append(f"Source: `{source}`, `{method.attribute}`.")
    return "\n\n".join(parts) + "\n"


def measured(method: Method) -> str:
    """The lines of the results pages whose first cell names the method, under the head of their table."""
    named = re.compile(rf"(?<![\w/]){re.escape(method.name)}(?![\w/])")
    depth = "../" * (method.id.count("/") + 1)
    parts: list[str] = []
    for path in sorted((DOCS / "results").glob("*.md")):
        lines = path.read_text("utf-8").splitlines()
        title = lines[0].removeprefix("# ").strip()
        for table in _tables(lines):
            rows = [line for line in table[2:] if named.search(line.split("|")[1])]
            if rows:
                link = f"From [{title}]({depth}results/{path.name}), where the other arms and the controls stand:"
                parts.append("\n".join([link, "", *table[:2], *rows[:MOST_ROWS]]))
                break  # the first table of a page holds the results, the others what they cost
    return "\n\n".join(parts)


def _tables(lines: list[str]) -> Iterator[list[str]]:
    """Every Markdown table, head and rule first."""
    for is_table, block in groupby(lines, key=lambda line: line.startswith("|")):
        if is_table:
            yield list(block)


def _facts(method: Method) -> Iterator[str]:
    if method.needs:
        yield _definition("Signals", ", ".join(f"`{name}`" for name in method.needs))
    shown = ("sense", "within", "normalise", "compensate", "at", "extras")
    for name in shown:
        if value := method.facts.get(name):
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            yield _definition(name.capitalize(), f"`{text}`")


def _definition(term: str, text: str) -> str:
    return f"{term}\n:   {text}"


def _rest(method: Method) -> str:
    """What the docstring says beyond its first line and its sections."""
    kept, inside = [], False
    for line in method.doc.strip().splitlines()[1:]:
        if line.partition(":")[0] in SECTIONS:
            inside = True
        elif inside and not line.startswith((" ", "\t")):
            inside = False
        if not inside:
            kept.append(line)
    return "\n".join(kept).strip()


def _options(options: tuple[Option, ...]) -> str:
    lines = ["| Option | Type | Default | Meaning |", "|---|---|---|---|"]
    for option in options:
        kind, default = option.type.replace("|", "\\|"), repr(option.default).strip("'")
        lines.append(f"| `{option.name}` | `{kind}` | `{default}` | {cell(option.help)} |")
    return "\n".join(lines)


def catalogue_page(methods: tuple[Method, ...]) -> str:
    """Every method in one page, room by room."""
    parts = [
        "# Methods",
        f"{len(methods)} methods. Each line is read from the source file of the method; each file is one method.",
    ]
    parts.append("A tick in the last column: the method gives the numbers that its authors' own code gave, in a test.")
    for room, found in groupby(sorted(methods, key=_order), key=lambda m: m.id.partition("/")[0]):
        lines = ["| Method | Kind | What it is | Signals | Golden |", "|---|---|---|---|---|"]
        for method in found:
            needs = ", ".join(f"`{name}`" for name in method.needs)
            what = method.paper.partition(":")[2].strip() or method.paper
            lines.append(
                f"| [{cell(title(method))}]({method.id}.md) | {method.kind} | {cell(what)} | {needs} | {'✓' if method.golden else ''} |"
            )
        parts.append(f"## {TITLES.get(room, room.capitalize())}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def taxonomy_page(methods: tuple[Method, ...]) -> str:
    """What removes something, along the axes of a survey; what an axis offers and nobody fills is said."""
    parts = [
        "# Methods along the axes of a survey",
        "After Cheng et al. 2024: which speed-up, when, judged by what, with which data. The same as filters: "
        "`prunus methods --speedup structured --when after --family magnitude --data free`.",
    ]
    placed = [(method, found) for method in methods if (found := place(method)) is not None]
    for axis, values in AXES.items():
        lines = ["| | Methods |", "|---|---|"]
        for value in values:
            named = [f"[{method.id}]({method.id}.md)" for method, at in placed if getattr(at, axis) == value]
            needs = f" ({KERNELS[value]})" if axis == "speedup" else ""
            lines.append(f"| {value}{needs} | {', '.join(named) or 'none yet'} |")
        parts.append(f"## {axis.capitalize()}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _order(method: Method) -> tuple[int, str]:
    room = method.id.partition("/")[0]
    return (registry.ROOMS.index(room) if room in registry.ROOMS else len(registry.ROOMS), method.id)


def documented_rooms() -> list[str]:
    """Rooms whose modules have a reference page: everything that is not a room of methods or the command line."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return sorted(rooms - set(registry.UNIT_ROOMS) - {"cli"}) + [name for name in registry.UNIT_ROOMS if name in rooms]


def reference_page(room: str) -> str:
    """The public functions and classes of a room, by mkdocstrings."""
    about = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8"))) or ""
    modules = sorted(path.stem for path in (PACKAGE / room).glob("*.py") if not path.stem.startswith("_"))
    parts = [f"# prunus.{room}", about, *(f"::: prunus.{room}.{module}" for module in modules)]
    return "\n\n".join(parts) + "\n"


def reference_index() -> str:
    """The rooms with the first line of what each says it is."""
    lines = ["# Reference", "Imports go down only: a room may use the rooms below it, and `core` uses none.", ""]
    for room in documented_rooms():
        about = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text("utf-8"))) or ""
        lines.append(f"- [`prunus.{room}`]({room}.md): {about.partition(chr(10))[0]}")
    return "\n".join(lines) + "\n"


def headed(folder: Path) -> list[tuple[str, str]]:
    """(title, file name) of every Markdown file of a folder, by file name."""
    found = []
    for path in sorted(folder.glob("*.md")):
        first = path.read_text("utf-8").lstrip().partition("\n")[0]
        found.append((first.lstrip("# ").strip() or path.stem, path.name))
    return found


def decisions_page() -> str:
    """The decisions, newest last."""
    lines = [
        "# Decisions",
        "What was decided, why, and what it was weighed against. A decision is changed by a new one.",
        "",
    ]
    lines += [f"- [{name}]({file})" for name, file in headed(DOCS / "decisions")]
    return "\n".join(lines) + "\n"


def results_page() -> str:
    """The measured claims, one page each."""
    found = headed(DOCS / "results")
    lines = [
        "# Results",
        "One page a claim: the recipe that was run, the machine, the numbers with their controls and intervals.",
        "",
    ]
    lines += [f"- [{name}]({file})" for name, file in found] or ["No result has been recorded yet."]
    return "\n".join(lines) + "\n"


def on_config(config: Any) -> Any:
    """mkdocs: put the generated pages into the navigation."""
    methods = sorted(registry.methods(), key=_order)
    rooms = groupby(methods, key=lambda m: m.id.partition("/")[0])
    sections = [
        {TITLES.get(room, room.capitalize()): [{title(m): f"methods/{m.id}.md"} for m in found]}
        for room, found in rooms
    ]
    generated = {
        "Methods": ["methods/index.md", {"Axes of a survey": "methods/taxonomy.md"}, *sections],
        "Results": ["results/index.md", *[{name: f"results/{file}"} for name, file in headed(DOCS / "results")]],
        "Reference": [
            "reference/index.md",
            *[{f"prunus.{room}": f"reference/{room}.md"} for room in documented_rooms()],
        ],
        "Decisions": [
            "decisions/index.md",
            *[{name: f"decisions/{file}"} for name, file in headed(DOCS / "decisions")],
        ],
    }
    config.nav = [
        {name: generated[name]} if (name := next(iter(entry))) in generated else entry for entry in config.nav
    ]
    return config


def on_files(files: Any, config: Any) -> Any:
    """mkdocs: add the generated pages."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files
