"""What sweeps over the cuts of a recipe share: its arms, one cut of a model after the other, and retraining from several seeds.

Sweeps are graphs of the same stages as runs, so they go on where they stopped, run on several processes, and share results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from prunus.core.errors import BadInput
from prunus.recipe.cases import DATA_UNITS, Case, Step, cases
from prunus.recipe.schema import Recipe
from prunus.run.catalogue import MethodFacts, method_facts
from prunus.run.resolve import Builder, State
from prunus.run.stage import Graph, Tag
from prunus.run.stages import STAGES as OF_RUNS

STAGES = {name: stage for name, stage in OF_RUNS.items() if name != "report"}
TABLE = "prunus.run.sweep:STAGES"
"""The stages of runs without their report: sweeps have tables of their own."""
Build = Callable[[Builder], None]


def graph_of(recipe: Recipe, build: Build, facts: MethodFacts = method_facts) -> Graph:
    """The graph that `build` makes, after a first time in which signals learn what they must record.

    Args:
        recipe: checked.
        build: adds nodes.
        facts: what the catalogue knows of a method; tests give their own.
    """
    builder = Builder(recipe, facts, defaultdict(set), Graph())
    build(builder)
    builder.graph = Graph()
    build(builder)
    return builder.graph


def own_run(recipe: Recipe, what: str) -> Recipe:
    """The recipe under a name of its own: its folder holds other tables than those of `prunus run`."""
    return recipe.model_copy(update={"run": recipe.run.model_copy(update={"name": f"{recipe.run.name}-{what}"[:61]})})


def arms(recipe: Recipe, what: str) -> list[Case]:
    """The arms of a recipe that cut a model once and recover it; controls and dense arms are not asked for.

    Raises:
        BadInput: an arm of another kind.
    """
    found = [case for case in cases(recipe) if case.steps and not case.control]
    for case in found:
        if len(case.steps) != 1 or case.steps[0].unit in DATA_UNITS or not case.recover:
            raise BadInput(
                f"{what} asks for arms that cut a model once and name a [recover] table; {case.label} is another"
            )
    return found


def cut(b: Builder, case: Case, step: Step, seed: int, *, draw: int, like: str = "") -> tuple[str, State]:
    """(data, the model after one cut): made, trained where the recipe says so, planned and cut.

    Args:
        b: of the graph.
        case: data, model, training.
        step: the removal.
        seed: of the dense model.
        draw: seed of a method that draws.
        like: plan whose counts a random method copies.
    """
    label = f"{step.label}{f' {draw}' if like else ''} at {case.budget}"
    data = b.node("data", f"data {case.data}", {}, **b.table("data", case.data))
    state = b.start(case, seed, data)
    if case.train:
        b.train(case, seed, data, state, f"{case.model}, {case.train}")
    b.step(case, step, draw, data, state, label, like)
    return data, state


def retrained(b: Builder, case: Case, data: str, state: State, seed: int, label: str) -> str:
    """The cut model after its recovery from a seed."""
    inputs = {"data": data, "model": state.model, "dense": state.dense, "plan": state.cut}
    return b.node(
        "recover", f"{label}, retrained from seed {seed}", inputs, **b.table("recover", case.recover), seed=seed
    )


def measured(b: Builder, case: Case, data: str, state: State, model: str, tag: Tag, **changes: Any) -> None:
    """Measure a model by the case's table, with some of its entries changed."""
    inputs = {"data": data, "dense": state.dense, "plan": state.cut, "model": model}
    table = {**b.table("measure", case.measure), **changes}
    result = b.node("measure", f"measuring {tag.arm} at {case.budget}, seed {tag.seed}", inputs, **table)
    b.graph.measures.setdefault(result, []).append(tag)
