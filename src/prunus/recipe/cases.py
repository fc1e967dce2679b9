"""Cases: what a recipe tries, one by one: every arm at every budget, the dense ones first, the controls last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.recipe.schema import SIMPLE_RULES, ArmTable, Choice, PruneTable, Recipe

DATA_UNITS = ("rows", "pairs", "tables")
SWEPT = ("method", "select", "allocate", "compensate")


@dataclass(frozen=True)
class Step:
    """One removal with every choice made; see PruneTable."""

    unit: str
    method: Choice
    budget: str
    select: Choice | None = None
    allocate: Choice | None = None
    compensate: Choice | None = None
    within: str = ""
    over: str = ""
    at: str = ""
    groups: str = ""
    floor: int = 1
    round_to: int = 1
    same_shape: bool = False
    tolerance: float | None = None
    pin: str = ""
    ban: str = ""

    @property
    def label(self) -> str:
        """`taylor + joint_ls`: the method and what it is combined with."""
        chosen = (self.method, self.select, self.allocate, self.compensate)
        return " + ".join(choice.label for choice in chosen if choice is not None and choice.name != "none")


@dataclass(frozen=True)
class Case:
    """One line of the final table.

    Attributes:
        arm: its name; unique together with `budget`.
        budget: as typed, joined by " then " when several units are removed; "" for dense.
        steps: removals in order; none for dense.
        data, model, train, signals, recover, measure: names of tables; "" where there is none.
        control: True for controls.
        like: the case whose counts per group a random control copies.
        seeds: of this case; () for those of the run.
    """

    arm: str
    budget: str
    steps: tuple[Step, ...]
    data: str
    model: str
    train: str
    signals: str
    recover: str
    measure: str
    control: bool = False
    like: Case | None = None
    seeds: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """`el2n + ccs at 30% rows`."""
        return f"{self.arm} at {self.budget}" if self.budget else self.arm


def cases(recipe: Recipe) -> tuple[Case, ...]:
    """Dense cases, the arms, then the controls; a control that two arms share appears once."""
    tried = [case for arm in recipe.arms for case in _of_arm(recipe, arm)]
    names = [(case.arm, case.budget) for case in tried]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"two arms are called {doubled[0]!r} at {doubled[1]!r}: give one of them a name")
    dense = dict.fromkeys(itertools.chain.from_iterable(_dense(case) for case in tried))
    shared = {_content(case) for case in tried}
    controls: dict[str, Case] = {}
    for arm in recipe.arms:
        for control in itertools.chain.from_iterable(_controls(recipe, arm, case) for case in _of_arm(recipe, arm)):
            if _content(control) not in shared:
                controls.setdefault(_content(control), control)
    return (*_distinct(list(dense)), *tried, *controls.values())


def _content(case: Case) -> str:
    return repr(replace(case, arm="", control=False, like=None)) + (_content(case.like) if case.like else "")


def _pick(recipe: Recipe, arm: ArmTable, section: str, *, optional: bool) -> str:
    chosen, tables = getattr(arm, section), getattr(recipe, section)
    if chosen == "none" and optional:
        return ""
    if chosen:
        return str(chosen)
    if len(tables) == 1:
        return next(iter(tables))
    if "main" in tables:
        return "main"
    if not tables and optional:
        return ""
    known = ", ".join(sorted(tables)) or "none is defined"
    raise BadInput(f"an arm must say which [{section}] it uses: {section} = ... ({known})")


def _of_arm(recipe: Recipe, arm: ArmTable) -> Iterator[Case]:
    on_data = any(step.unit in DATA_UNITS for step in arm.prune)
    on_model = any(step.unit not in DATA_UNITS for step in arm.prune)
    case = Case(
        arm=arm.name,
        budget="",
        steps=(),
        data=_pick(recipe, arm, "data", optional=False),
        model=_pick(recipe, arm, "model", optional=False),
        train=_pick(recipe, arm, "train", optional=not on_data) if on_data or arm.train else "",
        signals=_pick(recipe, arm, "signals", optional=False),
        recover=_pick(recipe, arm, "recover", optional=True) if on_model else "",
        measure=_pick(recipe, arm, "measure", optional=False),
        seeds=arm.seeds,
    )
    swept = [list(_choices(step)) for step in arm.prune]
    several = sum(len(choices) for choices in swept) > len(swept)
    for combination in itertools.product(*swept):
        label = " then ".join(step.label for step in combination)
        name = label if not arm.name else f"{arm.name}: {label}" if several else arm.name
        for budgets in itertools.product(*(step.budget for step in arm.prune)):
            steps = tuple(replace(step, budget=budget) for step, budget in zip(combination, budgets))
            shown = " then ".join(Budget.parse(budget).short() for budget in budgets)
            yield replace(case, arm=name, budget=shown, steps=steps)


def _choices(table: PruneTable) -> Iterator[Step]:
    plain = {name: getattr(table, name) for name in Step.__annotations__ if name not in (*SWEPT, "budget")}
    axes = [getattr(table, name) or (None,) for name in SWEPT]
    for chosen in itertools.product(*axes):
        yield Step(budget="", **dict(zip(SWEPT, chosen)), **plain)


def _dense(case: Case) -> Iterator[Case]:
    """What the case is compared with: nothing removed, with the same training, and with the same recovery."""
    bare = replace(case, arm="dense", budget="", steps=(), signals="", recover="", control=False, like=None)
    yield bare
    if case.recover:
        yield replace(bare, arm="dense, recovered", recover=case.recover)


def _distinct(dense: list[Case]) -> list[Case]:
    """Name dense cases by what tells them apart."""
    named: list[Case] = []
    for case in dense:
        twins = [other for other in dense if other.arm == case.arm]
        facts = [s for s in ("data", "model", "train", "recover", "measure") if len({getattr(t, s) for t in twins}) > 1]
        words = ", ".join(getattr(case, fact) or f"no {fact}" for fact in facts)
        named.append(replace(case, arm=f"{case.arm} ({words})" if words else case.arm))
    return named


def _controls(recipe: Recipe, arm: ArmTable, case: Case) -> Iterator[Case]:
    """The arm with each unit's methods replaced by random and by the unit's simple rule."""
    for position, step in enumerate(case.steps):
        given = arm.controls if arm.controls is not None else recipe.controls.get(step.unit)
        for control in SIMPLE_RULES.get(step.unit, ("random",)) if given is None else given:
            other = _control_step(step, control)
            if other == step:
                continue
            copies = step.unit not in DATA_UNITS and other.method.name == "random"
            steps = (*case.steps[:position], other, *case.steps[position + 1 :])
            name = " then ".join(s.label for s in steps)
            name = f"{name} (as {case.arm})" if copies else name
            yield replace(case, arm=name, steps=steps, control=True, like=case if copies else None)


def _control_step(step: Step, control: Any) -> Step:
    """A control is a name, or a table that says what it is combined with: { name = "l1", compensate = "joint_ls" }."""
    table = dict(control) if isinstance(control, dict) else {"name": control}
    parts = {name: table.pop(name) for name in ("select", "allocate", "compensate") if name in table}
    keeps = "compensate" if table.get("name") == "random" and "compensate" not in parts else ""
    try:
        chosen = PruneTable(method=table, budget=step.budget, unit=step.unit, **parts)  # type: ignore[arg-type]
    except ValidationError as error:
        raise BadInput(f"{control!r} is no control: write a name, or {{ name = ..., compensate = ... }}") from error
    made = next(_choices(chosen))
    plain = {name: getattr(step, name) for name in Step.__annotations__ if name not in SWEPT}
    choices = {name: getattr(made, name) for name in SWEPT}
    if keeps:
        choices[keeps] = getattr(step, keeps)
    return Step(**plain, **choices)
