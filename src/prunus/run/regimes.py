"""`prunus regimes`: how to train before pruning (Zhou et al. 2023): settings of dense training by density, and what to change.

Every arm of a recipe is one setting of dense training (its train table) at one density (its budget). The cut model is
retrained from every seed of the run, and each pair of copies is asked for a barrier and for the similarity of outputs, on fit rows.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput
from prunus.maths.regimes import BARRIER, Point, RegimeMap, regime_map
from prunus.recipe.schema import Recipe, TrainTable
from prunus.run.catalogue import MethodFacts, method_facts
from prunus.run.recipe_run import RunReport, run_recipe
from prunus.run.resolve import Builder
from prunus.run.stage import Graph, Tag
from prunus.run.sweep import TABLE, arms, cut, graph_of, measured, own_run, retrained

KNOBS = ("epochs", "steps", "batch", "lr")
ASKS = "a regime map"
PAIRS = ", pairs"
PAIR_METRICS = ("connectivity", "cka")


def regimes(
    recipe: Recipe, *, points: int = 11, barrier: float = BARRIER, alike: float | None = None, **settings: Any
) -> tuple[RunReport, RegimeMap]:
    """Run the sweep of a recipe, or go on with it, and classify every setting at every density.

    Args:
        recipe: its arms name lists of train tables and budgets; its seeds (two or more) are those of retraining, the first
            also that of dense training.
        points: on the line between two retrained copies.
        barrier, alike: see `maths.regimes.regime_map`.
        **settings: of `run_recipe` (jobs, runs, max_hours, ...).
    """
    order = temperatures(recipe)
    report = run_recipe(own_run(recipe, "regimes"), graph=regimes_graph(recipe, points), stages=TABLE, **settings)
    train_of = {case.arm: case.train for case in arms(recipe, ASKS)}
    return report, regime_map(read_points(report.rows, train_of, order), barrier=barrier, alike=alike)


def temperatures(recipe: Recipe) -> list[str]:
    """The train tables of the arms, coldest first: more epochs, a smaller learning rate or larger batches are colder.

    Raises:
        BadInput: they differ in more than one of these, so that none of two is the colder.
    """
    names = list(dict.fromkeys(case.train for case in arms(recipe, ASKS)))
    if "" in names:
        raise BadInput("a regime map compares dense trainings: give the arms train = ['...', '...']")
    tables = {name: recipe.train[name] for name in names}
    varied = [knob for knob in KNOBS if len({getattr(table, knob) for table in tables.values()}) > 1]
    if len(varied) > 1:
        raise BadInput(
            f"the trainings differ in {' and '.join(varied)}: which is hotter can't be told; vary one of them"
        )
    return sorted(names, key=lambda name: _heat(tables[name]))


def _heat(table: TrainTable) -> float:
    return table.lr / (table.batch * (table.epochs or table.steps or 1))


def regimes_graph(recipe: Recipe, points: int, facts: MethodFacts = method_facts) -> Graph:
    """The stages of a sweep.

    Args:
        recipe: checked.
        points: on each line.
        facts: see `resolve`.
    """
    for case in arms(recipe, ASKS):
        if len(case.seeds or recipe.run.seeds) < 2:
            raise BadInput("a regime map compares retrained copies: give [run] two seeds or more")
    return graph_of(recipe, lambda b: _build(b, points), facts)


def _build(b: Builder, points: int) -> None:
    for case in arms(b.recipe, ASKS):
        seeds, step = case.seeds or b.recipe.run.seeds, case.steps[0]
        data, state = cut(b, case, step, seeds[0], draw=seeds[0])
        copies: list[str] = []
        for seed in seeds:
            copies.append(retrained(b, case, data, state, seed, case.label))
            measured(b, case, data, state, copies[-1], Tag(case.arm, case.budget, seed, step.method.name))
        table = b.table("measure", case.measure)
        pair = {"batch": table["batch"], "limit": table["limit"], "points": points}
        for number, (one, other) in enumerate(itertools.combinations(copies, 2)):
            inputs = {"data": data, "model": one, "other": other}
            found = b.node("pair", f"line {number} of {case.label}", inputs, **pair)
            tag = Tag(f"{case.arm}{PAIRS}", case.budget, number, step.method.name)
            b.graph.measures.setdefault(found, []).append(tag)


def read_points(rows: Iterable[Mapping[str, Any]], train_of: Mapping[str, str], order: Sequence[str]) -> list[Point]:
    """A point for each setting and density.

    Args:
        rows: measured lines of a sweep.
        train_of: arm -> its train table.
        order: train tables, coldest first.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        arm = str(row["what"])
        if row["metric"] in (PAIR_METRICS if arm.endswith(PAIRS) else ("accuracy",)):
            place = train_of[arm.removesuffix(PAIRS)], str(row["budget"])
            found[place][str(row["metric"])].append(float(row["value"]))
    return [_point(order.index(train), train, budget, values) for (train, budget), values in found.items()]


def _point(temperature: int, train: str, budget: str, values: Mapping[str, list[float]]) -> Point:
    connectivity, similarity = (float(np.mean(values[name])) for name in PAIR_METRICS)
    error = 1 - float(np.mean(values["accuracy"])) if "accuracy" in values else None
    return Point(temperature, budget, connectivity, similarity, train, error)
