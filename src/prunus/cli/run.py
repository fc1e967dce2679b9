"""`prunus run` and `prunus demo`: a whole recipe, resumed where it stopped, with its tables and its report."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli.flags import AllowCode, DryRun, Json
from prunus.cli.show import facts, note, show
from prunus.core import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prunus.core.store import Store
    from prunus.recipe import Recipe
    from prunus.run.recipe_run import RunReport

Jobs = Annotated[
    int | None, typer.Option(min=0, help="Child processes at once, single-threaded; 0 runs here. Default the recipe's.")
]
Hours = Annotated[float | None, typer.Option(min=0, help="Refuse what would take longer; default the recipe's, 24.")]
AcceptEnv = Annotated[bool, typer.Option("--accept-env", help="Go on although versions, processor or threads changed.")]
Runs = Annotated[str, typer.Option(help="Folder of run folders and of the store.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="As run.seeds=[0,1].")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("run")(run)
    app.command("demo")(demo)


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE.toml", help="A recipe.")],
    overrides: Overrides = None,
    jobs: Jobs = None,
    max_hours: Hours = None,
    accept_env: AcceptEnv = False,
    allow_code: AllowCode = False,
    runs: Runs = "runs",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run a recipe; run it again to go on where it stopped."""
    from prunus.recipe import load

    loaded = load(recipe, overrides or [], allow_code=allow_code)
    _run(loaded, jobs, max_hours, accept_env, runs, dry_run, as_json)


def demo(
    overrides: Overrides = None,
    jobs: Jobs = None,
    max_hours: Hours = None,
    accept_env: AcceptEnv = False,
    runs: Runs = "runs",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Prune rows, channels and tokens of small data, with random beside each; no download. Ends by naming its report."""
    from prunus.recipe import load

    with resources.as_file(resources.files("prunus") / "recipes" / "demo.toml") as path:
        loaded = load(path, overrides or [])
    _run(loaded, jobs, max_hours, accept_env, runs, dry_run, as_json)


def _run(
    recipe: Recipe, jobs: int | None, max_hours: float | None, accept_env: bool, runs: str, dry_run: bool, as_json: bool
) -> None:
    from prunus.run.recipe_run import refuse, run_recipe

    with _one_thread() if dry_run else nullcontext():
        done = run_recipe(recipe, runs=runs, jobs=jobs, max_hours=max_hours, accept_env=accept_env, dry_run=dry_run)
    if dry_run:
        _tell_estimate(done, recipe, as_json)
        refuse(done.estimate, recipe.run.max_hours if max_hours is None else max_hours, _store(runs))
        return
    for line in done.broken:
        note(f"note: {line}")
    value = {"run": str(done.folder), "made": dict(done.made), "reused": done.reused, "rows": list(done.rows)}
    report = _page(done.files) or done.folder
    show({**value, "report": str(report)}, as_json=as_json, text=f"{_summary(done)}\nreport: {report}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """A dry run times what child processes will do, and those have one thread each."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _store(runs: str) -> Store:
    import os

    from prunus.core.store import Store

    return Store(os.environ.get("PRUNUS_CACHE") or f"{runs}/.store")


def _page(made: tuple[Path, ...]) -> Path | None:
    return next((path for path in made if path.suffix == ".html"), made[0] if made else None)


def _summary(done: RunReport) -> str:
    """Ten lines: dense, pruned, controls."""
    from prunus.report import runfolder, text

    return text.summary(runfolder.read(done.folder))


def _tell_estimate(done: RunReport, recipe: Recipe, as_json: bool) -> None:
    from prunus.run.progress import duration

    guess = done.estimate
    value: dict[str, Any] = {
        **asdict(guess),
        "folder": str(done.folder),
        "reused": done.reused,
        "max_hours": recipe.run.max_hours,
        "kinds": [asdict(kind) for kind in done.kinds],
    }
    lines = {
        "folder": str(done.folder),
        "there already": f"{done.reused} results",
        "time": f"{duration(guess.hours * 3600)} ({guess.hours:.3g} hours)",
        "RAM": files.size_text(guess.ram),
        "disk": files.size_text(guess.disk),
    }
    if not done.kinds:
        lines["note"] = "nothing that takes long is left to do"
    kinds = (f"{kind.count:4d} x {duration(kind.seconds):>6}  {kind.stage}, as {kind.label}" for kind in done.kinds)
    show(value, as_json=as_json, text="\n".join((facts(lines), *kinds)))
