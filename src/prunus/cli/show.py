"""What every verb prints: aligned tables or, with --json, one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from prunus.core.table import columns as lined_up

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def show(value: Any, *, as_json: bool, text: str | None = None) -> None:
    """Print `value` as JSON, or `text` (a table of the dicts in `value` by default)."""
    if as_json:
        typer.echo(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str))
    else:
        typer.echo(text if text is not None else table(value))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Dicts as an aligned table, columns in the order of the first dict."""
    if not rows:
        return "(nothing)"
    names = list(columns or rows[0])
    return lined_up(names, [[_cell(row.get(name)) for name in names] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
