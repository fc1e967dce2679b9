"""The report of a run folder: its metrics, its environment and the plans of its arms, written in the forms asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.arms import arms
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Plan
from prunus.core.results import Results
from prunus.report import build, figure, heat, markdown, page, settings, text, verdicts, view
from prunus.report.data import KeptBars, PlanRow, ReportData
from prunus.report.theory import theory_curves

FORMS = {
    "html": ("report.html", page.render),
    "markdown": ("report.md", markdown.render),
    "text": ("report.txt", text.render),
    "heat": ("heat.md", markdown.heats),
    "figure": ("curves.svg", figure.render),
}


def read(
    folder: str | Path,
    *,
    title: str = "",
    command: str = "",
    notes: Iterable[str] = (),
) -> ReportData:
    """Everything a run folder holds, as a ReportData.

    Args:
        folder: with `metrics/*.jsonl`, `env.json` and `arms/<arm>/<budget>/<seed>/plan/`.
        title: default that of the recipe, else the folder's name.
        command: what was typed.
        notes: sentences for the end of the report.

    Raises:
        BadInput: the folder holds no metrics.
    """
    folder = Path(folder)
    paths = sorted((folder / "metrics").glob("*.jsonl"))
    if not paths:
        raise BadInput(f"{folder} holds no metrics yet (metrics/*.jsonl): run the recipe first")
    results = Results.read(paths, _environment(folder))
    plans = _plans(folder, heat.rest(results, heat.pictures(results)))
    title = title or str(_recipe(folder).get("report", {}).get("title") or folder.name)
    data = replace(_compared(results), title=title, command=command, notes=tuple(notes))
    data = replace(data, plans=tuple(row for row, _ in plans.values()))
    return _with_bars(data, {place: plan for place, (_, plan) in plans.items()})


def read_several(
    folders: Sequence[str | Path], *, title: str = "", command: str = "", notes: Iterable[str] = ()
) -> ReportData:
    """Several run folders as one report, each run a setting (or several) of its own; plans are left to the report of each run.

    Raises:
        BadInput: a folder holds no metrics.
    """
    read_ones = [read(folder) for folder in folders]
    recipes = [_recipe(Path(folder)) for folder in folders]
    names = [str(recipe.get("run", {}).get("name") or Path(folder).name) for recipe, folder in zip(recipes, folders)]
    tags = settings.tags(names, recipes)
    results = settings.joined(zip(tags, (one.results for one in read_ones)))
    return replace(_compared(results), title=title or " and ".join(tags), command=command, notes=tuple(notes))


def _compared(results: Results) -> ReportData:
    """What results alone can say: many row methods as pictures, all other arms as a list of comparisons and charts."""
    drawn = heat.pictures(results)
    others, heats = heat.rest(results, drawn), heat.heats(results, drawn)
    panels = heat.panels(drawn, heats)
    return ReportData(
        title="",
        results=results,
        verdicts=verdicts.over_arms(others),
        heats=heats,
        panels=panels,
        curves=(*build.curves(others), *theory_curves(panels)),
    )


def _recipe(folder: Path) -> dict[str, Any]:
    path = folder / "recipe.json"
    return files.read_json(path) if path.is_file() else {}


def write(data: ReportData, out: str | Path, forms: Iterable[str] = ("html",)) -> list[Path]:
    """Write the report into a folder; returns the files, one for each form."""
    made = []
    for form in forms:
        if form not in FORMS:
            raise UnknownName("form of report", form, FORMS)
        name, render = FORMS[form]
        made.append(files.write_bytes(Path(out) / name, render(data).encode()))
    return made


def stage(inputs: Mapping[str, Path], params: Mapping[str, Any], out: Path) -> None:
    """The stage `report` of a run: `inputs["run"]` is the run folder, `params` the recipe's report table and the run's name."""
    data = read(inputs["run"], title=params.get("title") or params["name"], command=f"prunus run {params['name']}.toml")
    write(data, out, params.get("forms", ("html",)))


def _environment(folder: Path) -> dict[str, Any]:
    path = folder / "env.json"
    if not path.is_file():
        return {}
    return told(files.read_json(path))


def told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of core/environment.py, each as one line."""
    found = dict(facts)
    earlier = found.pop("earlier", [])
    packages = found.pop("packages", {})
    found |= (
        {"packages": ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))} if packages else {}
    )
    return found | ({"earlier environments": len(earlier)} if earlier else {})


def _plans(folder: Path, results: Results) -> dict[tuple[str, str], tuple[PlanRow, Plan]]:
    """(arm, budget) -> its row and its plan at the first seed that has one; controls are left out."""
    found: dict[tuple[str, str], tuple[PlanRow, Plan]] = {}
    for arm in arms(results):
        if arm.role != "pruned":
            continue
        place = folder / "arms" / files.safe_name(arm.what) / files.safe_name(arm.budget or "all")
        for seed in sorted(place.glob("seed*")):
            if (seed / "plan" / "plan.json").is_file():
                plan = Plan.load(seed / "plan")
                name = f"{arm.what}, {arm.budget}" if arm.budget else arm.what
                found[arm.what, arm.budget] = (build.plan_row(name, plan, _got(seed / "model" / "applied.json")), plan)
                break
    return found


def _got(path: Path) -> dict[str, float]:
    """What was counted after applying; empty where the arm has no model of its own."""
    return files.read_json(path).get("got", {}) if path.is_file() else {}


def _with_bars(data: ReportData, plans: dict[tuple[str, str], Plan]) -> ReportData:
    """Add what the headline arm keeps of each group, where it has more than one."""
    best = view.headline(data)
    plan = plans.get((best.what, best.budget)) if best else None
    bars: tuple[KeptBars, ...] = ()
    if best and plan is not None and len(plan.groups) > 1:
        bars = (build.kept_bars(plan, f"{best.what}, {best.budget}: {plan.unit} kept in each group"),)
    return replace(data, kept=bars)
