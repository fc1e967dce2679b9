"""From complete run folders to measured tables: `python -m prunus.advise.collect RUN... --out src/prunus/advise/measured.json`.

Tables of the same recipe (by name) in the file are replaced, all others stay, so that recipes can be added one by one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prunus.advise import measured
from prunus.advise.measured import Arm, Cell, Table
from prunus.core import files
from prunus.core.arms import better_is
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.core.results import Results
from prunus.recipe.cases import Case, cases
from prunus.recipe.schema import Recipe
from prunus.report.build import kept_share
from prunus.report.cost import SELECTION, SIGNALS
from prunus.report.data import Heat, HeatCell
from prunus.report.heat import Picture, heats, in_trainings, pictures, quality
from prunus.run.catalogue import method_facts

GIVEN = {"labels", "ids", "scores"}
VERSIONS = ("python", "torch", "numpy", "processor", "threads")


def tables_of(folder: str | Path) -> list[Table]:
    """Every table that the results of a run folder hold.

    Raises:
        BadInput: no recipe, results that are missing, too few methods over rows to make a table, or a metric that is better when low.
    """
    run = _Run(Path(folder))
    name, metric = run.recipe.run.name, quality(run.results)
    if missing := run.missing(metric):
        raise BadInput(f"{folder} lacks {missing} of the results that its recipe asks for: run it to the end first")
    if better_is(metric) == "lower":
        raise BadInput(f"tables are of metrics that are better when high, and {name} measured {metric}")
    drawn = pictures(run.results)
    found = [
        _table(run, picture, heat, first)
        for picture, heat in zip(drawn, heats(run.results, drawn))
        for first in dict.fromkeys(first for first, _ in heat.columns)
    ]
    if not found:
        raise BadInput(f"{name} in {folder} compares too few methods over rows with random_balanced to make a table")
    return found


@dataclass(frozen=True)
class _Run:
    """A run folder: its recipe, its cases by the names of the results, its rows."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        path = self.folder / "recipe.json"
        if not path.is_file():
            raise BadInput(f"{self.folder} is no run folder: it has no recipe.json")
        return Recipe.model_validate(files.read_json(path))

    @cached_property
    def results(self) -> Results:
        return Results.read(sorted((self.folder / "metrics").glob("*.jsonl")))

    @cached_property
    def every(self) -> tuple[Case, ...]:
        return cases(self.recipe)

    @cached_property
    def cases(self) -> dict[str, Case]:
        return {case.arm: case for case in self.every}

    def missing(self, metric: str) -> int:
        """How many seeds of how many cases have no result yet."""
        made = {(row.what, row.budget, row.seed) for row in self.results.where(metric=metric)}
        seeds = self.recipe.run.seeds
        asked = {(case.arm, case.budget, seed) for case in self.every for seed in case.seeds or seeds}
        return len(asked - made)

    @cached_property
    def versions(self) -> dict[str, str]:
        found = files.read_json(self.folder / "env.json") if (self.folder / "env.json").is_file() else {}
        packages = found.get("packages", {})
        return {name: str(value) for name in VERSIONS if (value := found.get(name, packages.get(name))) is not None}

    def place(self, arm: str, budget: str) -> Path:
        return self.folder / "arms" / files.safe_name(arm) / files.safe_name(budget)

    def rows(self, data: str) -> dict[str, np.ndarray]:
        """ids, x, labels and, where wrong ones were put in, clean_labels of the rows of role fit."""
        for case in self.cases.values():
            if case.data == data and case.budget:
                for link in sorted(self.place(case.arm, case.budget).glob("seed*/data/fit.safetensors")):
                    arrays = files.read_arrays(link)
                    return {name: arrays[name] for name in ("ids", "x", "labels", "clean_labels") if name in arrays}
        raise BadInput(f"{self.folder} holds no rows of the data {data!r} any more: run its recipe again")


def _table(run: _Run, picture: Picture, heat: Heat, first: str) -> Table:
    columns = [place for place, (setting, _) in enumerate(heat.columns) if setting == first]
    one = next(arm for cells in picture.found.values() for (setting, _), arm in cells.items() if setting == first)
    case, recipe = run.cases[one.what], run.recipe
    rows, train = run.rows(case.data), recipe.train[case.train]
    _, sizes = np.unique(rows["labels"], return_counts=True)
    wrong = float((rows["labels"] != rows["clean_labels"]).mean()) if "clean_labels" in rows else 0.0
    arms = [_arm(run, picture, heat, place, columns, rows) for place in range(len(heat.rows))]
    return Table(
        run=recipe.run.name,
        recipe=recipe.hash(),
        data=recipe.data[case.data].source,
        model=recipe.model[case.model].source,
        setting=", ".join(filter(None, [first, heat.title])),
        inputs=rows["x"].shape[1:] if "x" in rows else (),
        rows=len(rows["ids"]),
        classes=len(sizes),
        imbalance=float(sizes.max() / sizes.min()),
        label_noise=wrong,
        equal=train.equal,
        epochs=train.epochs,
        seeds=max(cell.pairs for row in heat.rows for cell in row.cells if cell),
        metric=heat.metric,
        control=heat.against,
        dense=_number(heat.dense[columns[0]]),
        budgets=tuple((kept_share(heat.columns[place][1]) or 0.0) / 100 for place in columns),
        base=tuple(_number(heat.base[place]) for place in columns),
        arms=tuple(arm for arm in arms if any(arm.cells)),
        environment=run.versions,
    )


def _number(value: float | None) -> float:
    if value is None:
        raise BadInput(
            "a table needs its control, and training on all rows, in every column: run the recipe to its end"
        )
    return value


def _arm(
    run: _Run, picture: Picture, heat: Heat, place: int, columns: list[int], rows: Mapping[str, np.ndarray]
) -> Arm:
    row = heat.rows[place]
    found = picture.found[row.name]
    cells = [
        _cell(cell, _kept(run, found[heat.columns[column]].what, heat.columns[column][1]), rows)
        if (cell := row.cells[column]) is not None
        else None
        for column in columns
    ]
    step = run.cases[next(iter(found.values())).what].steps[0]
    facts = method_facts("rows", step.method.name)
    select = step.select.name if step.select else str(facts.defaults.get("select", ""))
    needs = set(facts.needs) | set(method_facts("select", select).needs if select else ())
    options = dict(step.select.options) if step.select else {}
    signals, selection = (in_trainings(found, picture.dense, (part,)) or 0.0 for part in (SIGNALS, SELECTION))
    return Arm(
        step.label, step.method.name, select, dict(step.method.options), options, tuple(sorted(needs - GIVEN)),
        signals, selection, tuple(cells),
    )  # fmt: skip


def _kept(run: _Run, arm: str, budget: str) -> list[np.ndarray]:
    """Ids that stay at each seed; none for methods that choose while training."""
    return [Plan.load(path.parent).keep() for path in sorted(run.place(arm, budget).glob("seed*/plan/plan.json"))]


def _cell(cell: HeatCell, kept: list[np.ndarray], rows: Mapping[str, np.ndarray]) -> Cell:
    wrong: list[float] = []
    smallest: list[float] = []
    for ids in kept:
        at = np.flatnonzero(np.isin(rows["ids"], ids))
        classes = np.unique(rows["labels"])
        counts = np.bincount(np.searchsorted(classes, rows["labels"][at]), minlength=classes.size)
        smallest.append(float(counts.min() * classes.size / max(at.size, 1)))
        if "clean_labels" in rows:
            wrong.append(float((rows["labels"][at] != rows["clean_labels"][at]).mean()))
    return Cell(cell.word, cell.difference, cell.interval, _mean(wrong), _mean(smallest))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m prunus.advise.collect", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder of `prunus run`, complete")
    parser.add_argument("--out", required=True, help="file of tables, extended or replaced by recipe")
    asked = parser.parse_args(words)
    made = [table for run in asked.runs for table in tables_of(run)]
    names = {table.run for table in made}
    before: Any = measured.read(asked.out) if Path(asked.out).is_file() else ()
    measured.write([*(table for table in before if table.run not in names), *made], asked.out)
    sys.stdout.write(f"{len(made)} tables of {', '.join(sorted(names))} in {asked.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
