"""Cases: what a recipe tries, one by one: every arm at every budget, the dense ones first, the controls last."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.recipe.schema import SIMPLE_RULES, ArmTable, Choice, PruneTable, Recipe

DATA_UNITS = ("rows", "pairs", "tables")
SWEPT = ("method", "select", "allocate", "compensate")
SETTINGS = ("data", "model", "train")
NO_TEACHER = "no_teacher"  # the control of a taught arm: the same rows, without its teacher


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
    round_to: int | None = None
    same_shape: bool = False
    tolerance: float | None = None
    pin: str = ""
    ban: str = ""
    weights: bool = True

    @property
    def label(self) -> str:
        """`taylor + joint_ls`: the method and what it is combined with; random numbers that a selector gets are not told."""
        method = None if self.select is not None and self.method == Choice(name="random") else self.method
        chosen = (method, self.select, self.allocate, self.compensate)
        words = " + ".join(choice.label for choice in chosen if choice is not None and choice.name != "none")
        return words if self.weights else f"{words}, unweighted"


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
        teacher: name of the table of the teacher; "" where none teaches. The dense arm is never taught.
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
    teacher: str = ""

    @property
    def label(self) -> str:
        """`el2n + ccs at 30% rows`."""
        return f"{self.arm} at {self.budget}" if self.budget else self.arm


def cases(recipe: Recipe) -> tuple[Case, ...]:
    """Dense cases, the arms, then the controls; a control that two arms share appears once.

    Arms that bear one name in several settings (data, model, training) are told apart by the setting: `el2n + ccs (noisy)`.
    """
    given = [(arm, case) for arm in recipe.arms for case in _of_arm(recipe, arm)]
    tried = _in_settings([case for _, case in given])
    names = Counter((case.arm, case.budget) for case in tried)
    if doubled := next((name for name, times in names.items() if times > 1), None):
        raise BadInput(f"two arms are called {doubled[0]!r} at {doubled[1]!r}: give one of them a name")
    dense = dict.fromkeys(itertools.chain.from_iterable(_dense(case) for case in tried))
    shared = {_content(case) for case in tried}
    controls: dict[str, Case] = {}
    for (arm, _), case in zip(given, tried):
        for control in _controls(recipe, arm, case):
            if _content(control) not in shared:
                controls.setdefault(_content(control), control)
    return (*_distinct(list(dense)), *tried, *_in_settings(list(controls.values())))


def _content(case: Case) -> str:
    return repr(replace(case, arm="", control=False, like=None)) + (_content(case.like) if case.like else "")


def _pick(recipe: Recipe, arm: ArmTable, section: str, *, optional: bool) -> str:
    """Name of the table an arm uses, whose settings are chosen."""
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
    """Every case of an arm, setting by setting."""
    lists = [value if isinstance(value := getattr(arm, section), tuple) else (value,) for section in SETTINGS]
    for chosen in itertools.product(*lists):
        one = arm.model_copy(update=dict(zip(SETTINGS, chosen)))
        for how in arm.recover if isinstance(arm.recover, tuple) else (arm.recover,):
            found = _in_one(recipe, one.model_copy(update={"recover": how}))
            yield from (replace(case, arm=f"{case.arm}, {how}") for case in found) if how != arm.recover else found


def _in_one(recipe: Recipe, arm: ArmTable) -> Iterator[Case]:
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
        for teacher, *budgets in itertools.product(_teachers(arm, case), *(step.budget for step in arm.prune)):
            steps = tuple(replace(step, budget=budget) for step, budget in zip(combination, budgets))
            shown = " then ".join(Budget.parse(budget).short() for budget in budgets)
            yield replace(case, arm=name + _taught(teacher), budget=shown, steps=steps, teacher=teacher)


def _teachers(arm: ArmTable, case: Case) -> tuple[str, ...]:
    """Names of the teachers of an arm, "" for none."""
    found = tuple("" if name == "none" else name for name in arm.teacher) or ("",)
    if any(found) and not case.train:
        raise BadInput(f"teacher = {list(arm.teacher)}: {case.arm or 'an arm'} is not trained, so nobody can teach it")
    return found


def _taught(teacher: str) -> str:
    """The end of an arm's name."""
    return f", taught by {teacher}" if teacher else ""


def _choices(table: PruneTable) -> Iterator[Step]:
    plain = {name: getattr(table, name) for name in Step.__annotations__ if name not in (*SWEPT, "budget")}
    axes = [getattr(table, name) or (None,) for name in SWEPT]
    for chosen in itertools.product(*axes):
        yield Step(budget="", **dict(zip(SWEPT, chosen)), **plain)


def _dense(case: Case) -> Iterator[Case]:
    """What the case is compared with: nothing removed, with the same training, and with the same recovery."""
    bare = replace(case, arm="dense", budget="", steps=(), signals="", recover="", control=False, like=None, teacher="")
    yield bare
    if case.recover:
        yield replace(bare, arm="dense, recovered", recover=case.recover)


def _in_settings(found: list[Case]) -> list[Case]:
    """Add the setting to names that stand in more than one, in the words that name the dense arms."""
    facts = _apart(found, SETTINGS)
    places: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for case in found:
        places[case.arm].add(tuple(getattr(case, fact) for fact in facts))
    words = [", ".join(getattr(case, fact) or f"no {fact}" for fact in facts) for case in found]
    return [
        replace(case, arm=f"{case.arm} ({word})") if len(places[case.arm]) > 1 else case
        for case, word in zip(found, words)
    ]


def _apart(found: list[Case], sections: tuple[str, ...]) -> list[str]:
    """The sections in which cases differ."""
    return [section for section in sections if len({getattr(case, section) for case in found}) > 1]


def _distinct(dense: list[Case]) -> list[Case]:
    """Name dense cases by what tells them apart."""
    named: list[Case] = []
    for case in dense:
        twins = [other for other in dense if other.arm == case.arm]
        facts = _apart(twins, (*SETTINGS, "recover", "measure"))
        words = ", ".join(getattr(case, fact) or f"no {fact}" for fact in facts)
        named.append(replace(case, arm=f"{case.arm} ({words})" if words else case.arm))
    return named


def _controls(recipe: Recipe, arm: ArmTable, case: Case) -> Iterator[Case]:
    """The arm with each unit's methods replaced by random and by the unit's simple rule, and without its teacher."""
    for position, step in enumerate(case.steps):
        given = arm.controls if arm.controls is not None else recipe.controls.get(step.unit)
        usual = (*SIMPLE_RULES.get(step.unit, ("random",)), NO_TEACHER)
        made = (_control(case, position, control) for control in (usual if given is None else given))
        yield from (control for control in made if control is not None)


def _control(case: Case, position: int, control: Any) -> Case | None:
    """One control at one step; None where it would be the arm itself."""
    if control == NO_TEACHER:
        told: dict[str, Any] = {"control": True, "like": case, "teacher": ""}
        return replace(case, arm=f"{case.arm} (not taught)", **told) if case.teacher and not position else None
    step = case.steps[position]
    other = _control_step(step, control)
    if other == step:
        return None
    copies = step.unit not in DATA_UNITS and other.method.name == "random"
    steps = (*case.steps[:position], other, *case.steps[position + 1 :])
    name = " then ".join(s.label for s in steps) + _taught(case.teacher)
    name = f"{name} (as {case.arm})" if copies else name
    return replace(case, arm=name, steps=steps, control=True, like=case if copies else None)


def as_random(case: Case) -> Case:
    """The case with the method of its one step replaced by random, its compensation kept."""
    return replace(case, steps=(_control_step(case.steps[0], "random"),), control=True, like=case)


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
    plain["weights"] = True
    choices = {name: getattr(made, name) for name in SWEPT}
    if keeps:
        choices[keeps] = getattr(step, keeps)
    return Step(**plain, **choices)
