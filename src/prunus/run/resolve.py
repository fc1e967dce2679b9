"""From a recipe to a graph of stages. What cases share is one node: data, models, signals, scores, dense results.

The stages: inputs in brackets (`?`: not always there), what params hold, and what the folder holds afterwards:

- data []: the data table -> ids and roles
- model []: the model table; seed when the weights are new -> a model
- train [data, model, plan?, teacher?, score?]: the train table, seed; dynamic (method, budget) when rows are chosen
  while training; teacher (alpha, temperature) when the model `teacher`, made from every row, teaches; the score, where
  images are combined in its order -> a model
- signals [data, model, plan?]: the signals table, need; train (a table, or null for one pass); val? (what is needed of
  rows of role val) -> signals
- score [data, model?, signals?]: unit, method, at; seed? -> a Score
- plan [data, model?, dense?, score?, signals?, parent?, like?]: the step (method, budget, select, ...), kind; seed?;
  weights where the selector gives some -> a Plan
- apply [model, plan]: unit, mode -> a model
- recover [data, model, dense, plan?, rows?]: the recover table, seed -> a model
- measure [data, model, dense, plan?]: the measure table -> metrics.jsonl (metric, value, interval, note)
- pair [data, model, other]: batch, limit, points -> metrics.jsonl: connectivity and similarity of two models
- report [run]: the report table and the run's name -> files for the run folder; never stored

`seed` stands only where something is drawn at random, so that what does not depend on it is made once. `dense` is the
model before any removal, `parent` the plan before on the same model or rows, `like` the plan whose counts a random control copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from prunus.core import files
from prunus.core.errors import BadInput
from prunus.recipe.cases import DATA_UNITS, Case, Step, cases
from prunus.recipe.schema import OF_SUBSETS, Recipe
from prunus.run.catalogue import Facts, MethodFacts, method_facts
from prunus.run.stage import Graph, Node, Tag

COMBINED = ("select", "allocate", "compensate")
ABSENT = ("seed", "dynamic", "teacher", "weights")  # left out of the parameters where there is none
GIVEN = {"weight", "bias", "labels", "ids", "scores", "recalls"}  # held by data, model or request: no pass needed


def resolve(recipe: Recipe, facts: MethodFacts = method_facts) -> Graph:
    """The graph of a recipe.

    Args:
        recipe: checked.
        facts: what the catalogue knows of a method; tests give their own.
    """
    tried = cases(recipe)
    needs: dict[str, set[str]] = defaultdict(set)
    builder = Builder(recipe, facts, needs, Graph())
    builder.all(tried)  # once to learn which signals each pass must record, once for good
    builder.graph = Graph()
    builder.all(tried)
    return builder.graph


@dataclass
class State:
    """Where a case has got to: the nodes that hold its model, the last plan over rows, the last plan over the model."""

    model: str
    dense: str
    rows: str = ""
    cut: str = ""
    dynamic: Step | None = None
    shown: dict[str, str] = field(default_factory=dict)
    history: list[Any] = field(default_factory=list)


@dataclass
class Builder:
    """Adds the nodes of cases to a graph; sweeps (audit, regimes) add theirs with the same steps."""

    recipe: Recipe
    facts: MethodFacts
    needs: dict[str, set[str]]
    graph: Graph
    dense: dict[tuple[str, ...], str] = field(default_factory=dict)

    def all(self, tried: tuple[Case, ...]) -> None:
        self.dense = {_setting(case): case.arm for case in tried if not case.steps and not case.recover}
        for case in tried:
            for seed in case.seeds or self.recipe.run.seeds:
                self.case(case, seed)

    def node(self, stage: str, label: str, inputs: Mapping[str, str], /, **params: Any) -> str:
        given = {name: source for name, source in inputs.items() if source}
        kept = {name: value for name, value in params.items() if value is not None or name not in ABSENT}
        return self.graph.add(Node(stage, kept, given, label))

    def table(self, section: str, name: str) -> dict[str, Any]:
        found = getattr(self.recipe, section)[name].model_dump(mode="json")
        return {key: value for key, value in found.items() if value is not None or key not in OF_SUBSETS}

    def case(self, case: Case, seed: int) -> str:
        """Every node of one case and seed; returns the last plan."""
        data = self.node("data", f"data {case.data}", {}, **self.table("data", case.data))
        state = self.start(case, seed, data)
        label = f"{case.label}, seed {seed}"
        if not self.steps(case, seed, data, state, label):
            self.train(case, seed, data, state, label)
        self.finish(case, seed, data, state, label)
        return state.cut or state.rows

    def steps(self, case: Case, seed: int, data: str, state: State, label: str) -> bool:
        """All removals; the model is trained (if it is) on the rows that stay, before its first own removal."""
        trained = not case.train
        for number, step in enumerate(case.steps):
            if step.unit not in DATA_UNITS and not trained:
                self.train(case, seed, data, state, label)
                trained = True
            self.step(case, step, seed, data, state, label, self.like(case, number, seed))
        return trained

    def start(self, case: Case, seed: int, data: str) -> State:
        table = self.table("model", case.model)
        new = seed if not table["weights"] and case.train else None
        model = self.node("model", f"model {case.model}", {}, **table, seed=new)
        recorded = (
            self.recipe.signals[case.signals].train if case.signals else ""
        )  # then the arm's own training is no matter
        history = [case.data, case.model, "" if recorded else case.train, case.signals]
        return State(model=model, dense=model, history=history)

    def train(self, case: Case, seed: int, data: str, state: State, label: str) -> None:
        inputs = {"data": data, "model": state.model, "plan": state.rows, "teacher": self.teacher(case, seed, data)}
        dynamic, teacher = None, None
        if state.dynamic is not None:
            dynamic = {"method": state.dynamic.method.model_dump(mode="json"), "budget": state.dynamic.budget}
        if case.teacher:
            told = self.table("teacher", case.teacher)
            teacher = {name: told[name] for name in ("alpha", "temperature")}
        table = self.table("train", case.train)
        if not state.rows and dynamic is None:
            table = _whole(table)
        if "combine" in table:
            inputs["score"] = state.shown.get("score", "")
            if dynamic is not None:
                raise BadInput(f"{case.label}: rows that are chosen while training can't be combined beforehand")
        more = {"seed": seed, "dynamic": dynamic, "teacher": teacher}
        state.model = self.node("train", f"training of {label}", inputs, **table, **more)
        state.dense = state.model

    def teacher(self, case: Case, seed: int, data: str) -> str:
        """The model that teaches a case: trained on every row from another seed than its student, or given."""
        if not case.teacher:
            return ""
        told = self.recipe.teacher[case.teacher]
        train, begun = told.train or case.train, seed + 1 if told.seed is None else told.seed
        table = self.table("model", told.model or case.model)
        if train == "none" and table["weights"] in ("", "random"):
            raise BadInput(
                f"[teacher.{case.teacher}] is not trained and its model has no weights: name a train table, or give "
                "the model weights"
            )
        new = begun if not table["weights"] else None
        model = self.node("model", f"model of teacher {case.teacher}", {}, **table, seed=new)
        if train == "none":
            return model
        inputs = {"data": data, "model": model}
        label = f"training of teacher {case.teacher}, seed {begun}"
        return self.node("train", label, inputs, **_whole(self.table("train", train)), seed=begun)

    def like(self, case: Case, number: int, seed: int) -> str:
        """The plan whose counts this step of a random control copies."""
        if case.like is None or case.like.steps[number] == case.steps[number]:
            return ""
        model = replace(case.like, steps=case.like.steps[: number + 1], recover="", like=None)
        data = self.node("data", f"data {case.data}", {}, **self.table("data", case.data))
        state = self.start(model, seed, data)
        self.steps(model, seed, data, state, f"{model.label}, seed {seed}")
        return state.cut or state.rows

    def step(self, case: Case, step: Step, seed: int, data: str, state: State, label: str, like: str) -> None:
        method = self.facts(step.unit, step.method.name)
        if method.kind == "dynamic":
            if state.dynamic is not None:
                raise BadInput(f"{case.label}: only one method can choose rows while training")
            state.dynamic = step
            return
        combined = self.combined(step, method)
        needs = {name for part in (method, *combined) for name in part.needs} - GIVEN
        val = {name for part in (method, *combined) for name in part.val} - GIVEN
        signals = self.signals(case, step, seed, data, state, needs, val)
        given = {"data": data, "signals": signals}
        if step.unit not in DATA_UNITS:  # rows are judged by their signals alone
            given |= {"model": state.model, "dense": state.dense}
        weights = step.weights if any(part.weighs for part in combined) else None
        params = {**_plain(step), "kind": method.kind, "weights": weights}
        random = seed if method.random or any(part.random for part in combined) else None
        score = self.score(step, given, seed) if method.kind == "criterion" else ""
        if step.unit in DATA_UNITS and score:
            state.shown = {"score": score, "data": data}
        parent = state.rows if step.unit in DATA_UNITS else state.cut
        inputs = {**given, "score": score, "parent": parent, "like": like}
        plan = self.node("plan", f"plan of {label}", inputs, **params, seed=random)
        state.history.append(params)
        if step.unit in DATA_UNITS:
            state.rows = plan
        else:
            inputs = {"model": state.model, "plan": plan}
            state.cut, state.model = plan, self.node("apply", f"cut of {label}", inputs, unit=step.unit, mode="cut")

    def combined(self, step: Step, method: Facts) -> list[Facts]:
        """Facts of the selector, allocator and compensator: those of the recipe, else the method's own."""
        given = {part: choice.name for part in COMBINED if (choice := getattr(step, part)) is not None}
        chosen = {**method.defaults, **given}
        return [self.facts(part, name) for part, name in sorted(chosen.items()) if name != "none"]

    def score(self, step: Step, given: Mapping[str, str], seed: int) -> str:
        """The score, where one is kept: tokens are scored while the model runs, weights while the plan is made."""
        if step.unit in ("tokens", "weights"):
            return ""
        drawn = seed if self.facts(step.unit, step.method.name).random else None
        inputs = {name: source for name, source in given.items() if name != "dense"}
        chosen = step.method.model_dump(mode="json")
        label = f"score of {step.method.label}"
        return self.node("score", label, inputs, unit=step.unit, method=chosen, at=step.at, seed=drawn)

    def signals(
        self, case: Case, step: Step, seed: int, data: str, state: State, needs: set[str], val: set[str]
    ) -> str:
        """Signals of rows of role fit or of modules; and where a method reads them (`val`) those of rows of role val."""
        if not needs | val or step.unit == "tokens":
            return ""
        table = self.table("signals", case.signals)
        place = files.digest([step.unit in DATA_UNITS, state.history, seed if case.train and not table["train"] else 0])
        self.needs[place].update(needs, table["need"])
        self.needs[f"val/{place}"].update(val)
        table["need"] = sorted(self.needs[place])
        table |= {"val": sorted(self.needs[f"val/{place}"])} if self.needs[f"val/{place}"] else {}
        inputs = {"data": data, "model": state.model, "plan": state.rows}
        if table["train"]:
            table["train"] = _on_every_row(self.table("train", table["train"]))
            fresh = self.table("model", case.model)
            inputs = {"data": data, "model": self.node("model", f"model {case.model}", {}, **fresh)}
        else:
            table["train"] = None
        return self.node("signals", f"signals for {case.model} on {case.data}", inputs, **table)

    def finish(self, case: Case, seed: int, data: str, state: State, label: str) -> None:
        measured = self.table("measure", case.measure)
        where = f"{files.safe_name(case.arm)}/{files.safe_name(case.budget or 'all')}/seed{seed}"
        plan = state.cut or state.rows
        inputs = {"data": data, "dense": state.dense, "plan": plan}
        method, beside = " then ".join(map(_method_id, case.steps)), self.dense.get(_setting(case), "")
        like = case.like.arm if case.like is not None else ""
        tag = Tag(case.arm, case.budget, seed, method, case.control, beside, like)
        self.graph.links.update({f"{where}/{name}": node for name, node in _plans(state).items()})
        if not case.control:
            self.graph.links.update({f"{where}/{name}": node for name, node in state.shown.items()})
        if case.recover and case.steps and measured["before_recovery"]:
            before = self.node(
                "measure", f"measuring {label}, before recovery", {**inputs, "model": state.model}, **measured
            )
            cut = replace(tag, arm=f"{case.arm}, not recovered")
            self.graph.measures.setdefault(before, []).append(cut)
        if case.recover:
            given = {"data": data, "model": state.model, "dense": state.dense, "plan": state.cut, "rows": state.rows}
            table = self.table("recover", case.recover)
            state.model = self.node("recover", f"recovery of {label}", given, **table, seed=seed)
        self.graph.links[f"{where}/model"] = state.model
        result = self.node("measure", f"measuring {label}", {**inputs, "model": state.model}, **measured)
        self.graph.links[f"{where}/measure"] = result
        self.graph.measures.setdefault(result, []).append(tag)


def _whole(table: Mapping[str, Any]) -> dict[str, Any]:
    """The training on every row: tables that differ only in what they do to subsets are one there."""
    return {**_on_every_row(table), "equal": "steps"}


def _on_every_row(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in OF_SUBSETS}


def _plans(state: State) -> dict[str, str]:
    """Names of the links to the plans: `plan`, and `rows` for the rows when the model is cut too."""
    if state.rows and state.cut:
        return {"rows": state.rows, "plan": state.cut}
    return {"plan": state.rows or state.cut} if state.rows or state.cut else {}


def _setting(case: Case) -> tuple[str, ...]:
    """What a case shares with its dense arm."""
    return (case.data, case.model, case.train, case.measure)


def _method_id(step: Step) -> str:
    return step.method.name if "/" in step.method.name else f"{step.unit}/{step.method.name}"


def _plain(step: Step) -> dict[str, Any]:
    """A step as plain values."""
    chosen = ("method", "select", "allocate", "compensate")
    # `over` is left out where it says nothing: what was stored before it existed is found again.
    plain = {k: v for k, v in asdict(step).items() if k not in chosen and (v or k != "over")}
    return plain | {n: c.model_dump(mode="json") for n in chosen if (c := getattr(step, n)) is not None}
