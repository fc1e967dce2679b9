"""`prunus audit`: does the loss right after a cut predict the network after retraining? For one's own model (Feng et al. 2024).

Every arm of a recipe gives one candidate at its budget. Beside those of one setting stand random cuts that keep as many units in
every group as an arm does, arms taking turns. All are cut from one dense model and retrained from the same seeds. Loss before
retraining is over fit rows, the rest by the recipe's measure table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prunus.core.errors import BadInput
from prunus.measure.rank_agreement import RankAgreement, rank_agreement
from prunus.recipe.cases import Case, as_random
from prunus.recipe.schema import Recipe
from prunus.run.catalogue import MethodFacts, method_facts
from prunus.run.recipe_run import RunReport, run_recipe
from prunus.run.resolve import Builder
from prunus.run.stage import Graph, Tag
from prunus.run.sweep import TABLE, arms, cut, graph_of, measured, own_run, retrained

BETTER: dict[str, Literal["higher", "lower"]] = {"accuracy": "higher", "loss": "lower", "perplexity": "lower"}
FIRST = ("loss", "perplexity")  # what is taken before retraining
ASKS, RANDOM, BEFORE = "an audit", "random ", ", not retrained"


@dataclass(frozen=True)
class Audited:
    """The candidates of one pool: cuts of one model at one budget.

    Attributes:
        pool: setting and budget.
        before: candidate -> loss over fit rows right after the cut.
        after: metric -> candidate -> mean over retraining seeds.
        agreement: metric -> how the first orders the second.
        criteria: candidate -> the rank (1 is best) of an arm among all after retraining, by the first metric.
    """

    pool: str
    before: Mapping[str, float]
    after: Mapping[str, Mapping[str, float]]
    agreement: Mapping[str, RankAgreement]
    criteria: Mapping[str, int]


def audit(recipe: Recipe, *, candidates: int = 40, **settings: Any) -> tuple[RunReport, list[Audited]]:
    """Run the audit of a recipe, or go on with it.

    Args:
        recipe: its arms give budgets and criteria; its seeds are those of retraining, the first also that of training.
        candidates: random cuts beside the arms of each setting and budget.
        **settings: of `run_recipe` (jobs, runs, max_hours, ...).
    """
    report = run_recipe(own_run(recipe, "audit"), graph=audit_graph(recipe, candidates), stages=TABLE, **settings)
    return report, read_audit(report.rows, {case.arm: _setting(case) for case in arms(recipe, ASKS)})


def audit_graph(recipe: Recipe, candidates: int, facts: MethodFacts = method_facts) -> Graph:
    """The stages of an audit.

    Args:
        recipe: checked.
        candidates: random cuts beside the arms of each setting and budget.
        facts: see `resolve`.
    """
    if candidates < 1:
        raise BadInput(f"an audit needs random candidates beside each criterion, not {candidates}")
    return graph_of(recipe, lambda b: _build(b, candidates), facts)


def _build(b: Builder, candidates: int) -> None:
    pools: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in arms(b.recipe, ASKS):
        pools[_setting(case), case.budget].append(case)
    for pool in pools.values():
        plans = [_candidate(b, case, case, "", 0) for case in pool]
        for number in range(candidates):
            case = pool[number % len(pool)]
            _candidate(b, case, as_random(case), plans[number % len(pool)], number)


def _setting(case: Case) -> str:
    """What candidates must share to be compared."""
    return ", ".join(filter(None, (case.data, case.model, case.train, case.recover)))


def _candidate(b: Builder, case: Case, tried: Case, like: str, number: int) -> str:
    """One cut, measured before and after retraining; returns its plan."""
    seeds, step = case.seeds or b.recipe.run.seeds, tried.steps[0]
    name = f"{RANDOM}{number} (as {case.arm})" if like else case.arm
    data, state = cut(b, case, step, seeds[0], draw=number if like else seeds[0], like=like)
    tag = Tag(f"{name}{BEFORE}", case.budget, None, step.method.name, bool(like), "", case.arm)
    measured(b, case, data, state, state.model, tag, role="fit")
    for seed in seeds:
        model = retrained(b, case, data, state, seed, f"{name} at {case.budget}")
        measured(b, case, data, state, model, Tag(name, case.budget, seed, step.method.name, bool(like), "", case.arm))
    return state.cut


def read_audit(rows: Iterable[Mapping[str, Any]], setting_of: Mapping[str, str]) -> list[Audited]:
    """What the measured lines of an audit say, pool by pool.

    Args:
        rows: measured lines; `like` names the arm whose counts a candidate has.
        setting_of: arm -> its setting.
    """
    pools: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        pool = pools[f"{setting_of[str(row['like'])]} at {row['budget']}"]
        name = str(row["what"])
        if row["metric"] in BETTER:
            first = "before " if name.endswith(BEFORE) else ""
            pool[name.removesuffix(BEFORE)][f"{first}{row['metric']}"].append(float(row["value"]))
    return [_read(name, pool) for name, pool in pools.items()]


def _read(name: str, pool: Mapping[str, Mapping[str, list[float]]]) -> Audited:
    told = {metric for candidate in pool.values() for metric in candidate}
    first = next((metric for metric in FIRST if f"before {metric}" in told), None)
    if first is None:
        raise BadInput(f"{name}: the recipe's [measure] gives no loss: metrics = ['accuracy'] or ['perplexity']")
    means = {candidate: {m: float(np.mean(v)) for m, v in found.items()} for candidate, found in pool.items()}
    before = {candidate: found.get(f"before {first}", np.nan) for candidate, found in means.items()}
    after = {
        metric: {candidate: found.get(metric, np.nan) for candidate, found in means.items()}
        for metric in BETTER
        if metric in told
    }
    first_loss = list(before.values())
    agreement = {m: rank_agreement(first_loss, list(v.values()), better=BETTER[m]) for m, v in after.items()}
    best = next(iter(after))
    order = sorted(after[best], key=lambda c: after[best][c], reverse=BETTER[best] == "higher")
    criteria = {c: at + 1 for at, c in enumerate(order) if not c.startswith(RANDOM)}
    return Audited(name, before, after, agreement, criteria)
