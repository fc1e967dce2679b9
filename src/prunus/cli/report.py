"""`prunus report`: a run folder as one HTML page, as Markdown or as text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunus.cli.flags import Json
from prunus.cli.show import show
from prunus.core.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report")(report)


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders of `prunus run`.")],
    forms: Annotated[
        str, typer.Option("--as", help="With commas: html, markdown, text, heat (its table alone).")
    ] = "html",
    out: Annotated[str, typer.Option(help="Folder to write into; default the run folder, the first of several.")] = "",
    title: Annotated[str, typer.Option(help="Default the folder's name.")] = "",
    as_json: Json = False,
) -> None:
    """Write the report of a run, or of several side by side; `--as text` or `--as heat` without --out prints it."""
    from prunus.report import runfolder

    if missing := next((run for run in runs if not Path(run).is_dir()), None):
        raise BadInput(f"there is no run folder {missing!r}; runs are in runs/")
    command = f"prunus report {' '.join(Path(run).name for run in runs)}"
    if len(runs) == 1:
        data = runfolder.read(runs[0], title=title, command=command)
    else:
        data = runfolder.read_several(runs, title=title, command=command)
    names = [name.strip() for name in forms.split(",") if name.strip()]
    if names in (["text"], ["heat"]) and not out and not as_json:
        typer.echo(runfolder.FORMS[names[0]][1](data).rstrip() or "no table of many methods: see --as text")
        return
    made = runfolder.write(data, out or runs[0], names)
    show({"files": [str(path) for path in made]}, as_json=as_json, text="\n".join(str(path) for path in made))
