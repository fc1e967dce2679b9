"""What every verb prints: aligned tables or, with --json, one JSON document on standard output; notes on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from prunus.core.errors import BadInput
from prunus.core.table import columns as lined_up

if TYPE_CHECKING:
    from prunus.core.results import Results

READS = re.compile(r"(?:; )?test_passes=(\d+)")


def show(value: Any, *, as_json: bool, text: str | None = None) -> None:
    """Print `value` as JSON, or `text` (a table of the dicts in `value` by default)."""
    if as_json:
        typer.echo(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=_plain))
    else:
        typer.echo(text if text is not None else table(value))


def note(text: str) -> None:
    """A line for people, beside the result: on standard error."""
    print(text, file=sys.stderr)  # noqa: T201


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Dicts as an aligned table, columns in the order of the first dict; numbers flush right."""
    if not rows:
        return "(nothing)"
    names = list(columns or rows[0])
    right = [i for i, name in enumerate(names) if all(_is_number(row.get(name)) for row in rows)]
    return lined_up(names, [[_cell(row.get(name)) for name in names] for row in rows], right)


def results_text(results: Results, *, controls: bool = True) -> str:
    """The table of Results, with notes that differ only in how often test rows were read put together.

    Args:
        controls: whether the lack of a control is worth a line (nothing was pruned otherwise).
    """
    from dataclasses import replace

    from prunus.core.results import Results as Table
    from prunus.core.table import NO_CONTROL

    reads = [int(found[1]) for row in results if (found := READS.search(row.note))]
    text = str(Table(tuple(replace(row, note=READS.sub("", row.note).strip("; ")) for row in results)))
    if not controls:
        text = text.removesuffix(NO_CONTROL).rstrip()
    return f"{text}\ntest rows were read {max(reads)} times by this command" if reads else text


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values, one a line, values lined up; empty values are left out."""
    shown = {name: _cell(value) for name, value in pairs.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown.items())


def new_place(out: str, *, overwrite: bool, what: str = "--out DIR") -> Path:
    """The path to write to.

    Raises:
        BadInput: none was given, or something is there.
    """
    if not out:
        raise BadInput(f"say where the result goes: {what}")
    path = Path(out)
    if not overwrite and path.exists() and (path.is_file() or any(path.iterdir())):
        raise BadInput(f"{out} is there already: choose another --out, or add --overwrite")
    return path


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as JSON has them, everything else as text."""
    convert = getattr(value, "tolist", None)
    return convert() if convert is not None else str(value)
