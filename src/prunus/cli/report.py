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
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder of `prunus run`.")],
    forms: Annotated[str, typer.Option("--as", help="With commas: html, markdown, text.")] = "html",
    out: Annotated[str, typer.Option(help="Folder to write into; default the run folder.")] = "",
    title: Annotated[str, typer.Option(help="Default the folder's name.")] = "",
    as_json: Json = False,
) -> None:
    """Write the report of a run; `--as text` without --out prints it."""
    from prunus.report import runfolder, text

    if not Path(run).is_dir():
        raise BadInput(f"there is no run folder {run!r}; runs are in runs/")
    data = runfolder.read(run, title=title, command=f"prunus report {Path(run).name}")
    names = [name.strip() for name in forms.split(",") if name.strip()]
    if names == ["text"] and not out and not as_json:
        typer.echo(text.render(data).rstrip())
        return
    made = runfolder.write(data, out or run, names)
    show({"files": [str(path) for path in made]}, as_json=as_json, text="\n".join(str(path) for path in made))
