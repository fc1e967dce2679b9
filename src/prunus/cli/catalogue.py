"""`prunus methods`: what there is, read from source text without importing a method."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from prunus.cli.flags import Json
from prunus.cli.show import show, table
from prunus.core import registry
from prunus.core.registry import Method
from prunus.core.taxonomy import fits, place


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("methods")(methods)


def methods(
    name: Annotated[str, typer.Argument(help="One method: its page with all options.")] = "",
    unit: Annotated[str | None, typer.Option(help="Only methods that remove this unit: rows, channels, ...")] = None,
    needs: Annotated[str | None, typer.Option(help="Only methods that read this signal.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind: criterion, selector, ...")] = None,
    speedup: Annotated[str | None, typer.Option(help="Survey: unstructured, structured, data.")] = None,
    when: Annotated[str | None, typer.Option(help="Survey: before, during or after training, runtime.")] = None,
    family: Annotated[
        str | None, typer.Option(help="Survey: magnitude, first-order, second-order, random, ...")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Survey: what it reads: free (none), unlabelled, labelled.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods, or show one."""
    if name:
        method = registry.find(name)
        show(_facts(method), as_json=as_json, text=_page(method))
        return
    axes = {"speedup": speedup, "when": when, "family": family, "data": data}
    listed = [method for method in registry.methods(unit, kind, needs) if fits(method, **axes)]
    found = [_facts(method) for method in listed]
    columns = ("id", "kind", "needs", "cost", "paper", "card", "golden")
    short = [{**facts, "cost": _short(facts["cost"], 40), "paper": _short(facts["paper"], 70)} for facts in found]
    show(found, as_json=as_json, text=table(short, columns))


def _facts(method: Method) -> dict[str, Any]:
    options = [{"name": o.name, "type": o.type, "default": o.default, "help": o.help} for o in method.options]
    return {
        "id": method.id,
        "unit": method.unit,
        "kind": method.kind,
        "needs": list(method.needs),
        "cost": method.cost,
        "paper": method.paper,
        "card": method.card,
        "golden": method.golden,
        "taxonomy": None if (found := place(method)) is None else asdict(found),
        "options": options,
    }


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _page(method: Method) -> str:
    lines = [f"{method.id} ({method.kind})", "", method.doc.strip()]
    if method.options:
        lines += ["", "Options:"]
        options = [
            {"": f"  --{o.name.replace('_', '-')}", "type": o.type, "default": o.default, "help": o.help}
            for o in method.options
        ]
        lines.append(table(options))
    return "\n".join(lines)
