"""`prunus duplicates`: rows that resemble each other, the kept row that stands for each, and how many stay at every eps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prunus.cli.flags import Json, Overwrite, Seed
from prunus.cli.labels import FORMATS, write_lines
from prunus.cli.options import EXTRA, arguments, assign, own_flags
from prunus.cli.show import facts, new_place, show, table
from prunus.core import registry
from prunus.core.errors import BadInput

SHOWN = 20
COLUMNS = ("prunus_id", "kept", "cosine")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("duplicates", context_settings=EXTRA)(duplicates)


def duplicates(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="EMBEDDINGS", help="Folder of `prunus signals`, or a table, with embedding.")
    ],
    eps: Annotated[
        float,
        typer.Option(
            help="Name the pairs at this eps. A row goes when its cosine with an earlier one is above 1 - eps; that one may go "
            "too, so the kept row can be farther away (rule=greedy: never). 0 = only the curve."
        ),
    ] = 0.0,
    out: Annotated[str, typer.Option(help="With --eps: .csv or .jsonl to write the pairs to.")] = "",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Name near duplicates by their embeddings. Flags of semdedup: see `prunus methods semdedup`."""
    from prunus.cli.score import read_signals
    from prunus.flow.duplicates import near_duplicates

    given, pairs = arguments(context, words)
    if len(given) != 1:
        raise BadInput(
            f"prunus duplicates takes one folder or table of embeddings, not {len(given)}: {' '.join(given)}"
        )
    options: dict[str, Any] = assign(pairs, registry.find("semdedup", kind="selector"), also=own_flags(context))[0]
    place = _place(out, eps, overwrite)
    greedy = options.get("rule") == "greedy"
    if greedy and not eps:
        raise BadInput("the greedy rule has another answer at each eps: name one, --eps 0.05")
    found = near_duplicates(read_signals(given)[0], eps=eps if greedy else None, seed=seed, **options)
    curve, lines = [] if greedy else found.curve(), found.pairs(eps) if eps else []
    if place is not None:
        write_lines(lines, COLUMNS, place)
    rows = len(found.signals)
    head = {"rows": rows, "pairs": f"{len(lines):,} at eps {eps:g}" if eps else "", "written": out}
    text = [facts(head), *(["", table(curve)] if curve else []), *(["", table(lines[:SHOWN])] if lines else [])]
    text += [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    result = {
        "rows": rows,
        "curve": curve,
        **({"eps": eps, "pairs": lines} if eps else {}),
        **({"out": out} if out else {}),
    }
    show(result, as_json=as_json, text="\n".join(text))


def _place(out: str, eps: float, overwrite: bool) -> Path | None:
    """Where pairs are written, refused before anything is computed."""
    if not out:
        return None
    if not eps:
        raise BadInput("--out writes the pairs at one eps: name it, --eps 0.05")
    if Path(out).suffix not in FORMATS:
        raise BadInput(f"--out writes pairs as {' or '.join(FORMATS)}, not as {Path(out).name!r}")
    return new_place(out, overwrite=overwrite, what=f"--out {out}")
