"""Trying the shortlist on the user's own rows: a recipe over a subsample, judged on held-out rows of role val, with its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunus.advise.advice import Advice
from prunus.advise.asked import Asked, chosen
from prunus.advise.lookup import PLAIN, Expected
from prunus.core.errors import BadInput
from prunus.recipe import parse
from prunus.recipe.schema import DataTable, Recipe
from prunus.report import runfolder, text, verdicts
from prunus.report.data import ReportData, Verdict
from prunus.run import run_recipe

RECORDED_SEED = 1000  # of the run that records signals: no arm's own
LEAST = 3  # arms tried, where the shortlist is shorter
VAL, METRIC = 0.25, "accuracy"
SHORTEST, WINDOW = 4, 10  # epochs of the recorded run at least; of a window at most


@dataclass(frozen=True)
class Trial:
    """How the shortlist is tried.

    Attributes:
        data: the data table of a recipe: source, label, image, ...
        model: its model table: source, classes, options, weights.
        sample: rows to train on at most, and rows of role val.
        seeds, epochs, batch, lr: of the trainings on what each arm keeps.
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    sample: int = 2000
    seeds: int = 5
    epochs: int = 10
    batch: int = 64
    lr: float = 0.05


@dataclass(frozen=True)
class Verified:
    """What came out: the run folder, the report, and the comparisons with the adviser's control."""

    folder: Path
    report: ReportData
    against: str

    @property
    def lines(self) -> tuple[Verdict, ...]:
        """The comparisons with the control."""
        return tuple(line for line in self.report.verdicts if line.against == self.against)

    def __str__(self) -> str:
        shown = text.verdict_table(ReportData("", verdicts=self.lines))
        return f"{text.summary(self.report)}\n\n{shown}"


def recipe_of(advice: Advice, trial: Trial, asked: Asked | None = None) -> Recipe:
    """The recipe that tries the shortlist (or, where there is none, the best of the rest) and the method asked for.

    Raises:
        BadInput: data or model do not make a recipe.
    """
    if trial.sample < 40:
        raise BadInput(f"a sample of {trial.sample} rows is too small to train and to judge on: give 200 or more")
    budget = advice.situation.budget
    tried = [_arm(one, budget) for one in _candidates(advice)]
    if asked is not None and (own := _asked(asked, budget)) not in tried:
        tried.append(own)
    recorded = max(trial.epochs, SHORTEST)
    window = min(WINDOW, recorded // 2)  # criteria over windows of epochs need a whole one, and better several
    given = dict(trial.data)
    fit = {**given.pop("fit", {}), "limit": trial.sample}
    raw = {
        "run": {"name": "advise", "seeds": list(range(trial.seeds))},
        "data": {**given, "fit": fit, "val": {"share": VAL, "limit": trial.sample}},
        "model": dict(trial.model),
        "train": {"main": {"epochs": trial.epochs, "equal": advice.equal, "batch": trial.batch, "lr": trial.lr}},
        "signals": {"train": "main", "seeds": [RECORDED_SEED], "epochs": recorded, "recorder": {"window": window}},
        "measure": {"metrics": [METRIC], "role": "val"},
        "controls": {"rows": sorted({"random", advice.control})},
        "arms": [{"prune": one} for one in tried],
        "report": {"title": f"The adviser's shortlist on {advice.situation.name}", "forms": ["html", "markdown"]},
    }
    return parse(raw, where="the trial")


def _candidates(advice: Advice) -> list[Expected]:
    rest = [one for one in advice.ranked if one not in advice.shortlist and one.arm.name not in PLAIN and not one.loses]
    return [*advice.shortlist, *rest[: max(0, LEAST - len(advice.shortlist))]]


def _arm(one: Expected, budget: str) -> dict[str, Any]:
    made: dict[str, Any] = {"method": {"name": one.arm.method, **one.arm.method_options}, "budget": budget}
    return made | ({"select": {"name": one.arm.select, **one.arm.select_options}} if one.arm.select else {})


def _asked(asked: Asked, budget: str) -> dict[str, Any]:
    method, select = chosen(asked)
    made: dict[str, Any] = {"method": {"name": method.name}, "budget": budget}
    return made | ({"select": {"name": select, **dict(asked.options)}} if select else {})


def data_table(source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's data table from a source and the options behind its `?`.

    Raises:
        BadInput: an option that recipes do not have.
    """
    made: dict[str, Any] = {"source": source}
    for name, value in options.items():
        if name == "limit":
            made["fit"] = {"limit": int(value)}
        elif name in DataTable.model_fields and name not in ("source", "fit", "val", "test"):
            made[name] = value
        elif name != "role":
            raise BadInput(f"--verify can't open {source} with {name}={value}: recipes have no such option of data")
    return made


def run_trial(
    recipe: Recipe, against: str, *, runs: str | Path = "runs", jobs: int | None = None, max_hours: float | None = None
) -> Verified:
    """Run the recipe (or go on with it) and read what came out."""
    done = run_recipe(recipe, runs=runs, jobs=jobs, max_hours=max_hours)
    read = runfolder.read(done.folder, title=recipe.report.title)
    # A picture of many methods, where there is one, has taken its arms out of the list: here the list is wanted.
    results = read.results.where(metric=METRIC)
    listed = ReportData(read.title, results, verdicts=verdicts.over_arms(results))
    return Verified(done.folder, listed, against)
