"""Contract of searches: they plan within the budget, leave the model alone, and give the same bytes again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import every
from contract.checks import contents, round_trip, threads, untouched
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite, SplitError
from prunus.core.plan import Plan
from prunus.flow.calls import asks_for, does_without
from prunus.flow.search import plan_search

searches = every("search")
HALF = {"channels": "50% macs", "layers": "50% layers", "weights": "50% weights", "ranks": "60% params"}
BRIEF = {"steps": 2, "rounds": 2}  # options that say how long


def planned(method, budget="", prunable=None, **settings) -> Plan:
    settings = {"data": fixtures.dataset(), "options": brief(method), **settings}
    chosen = Budget.parse(budget or HALF[method.unit])
    return plan_search(prunable or fixtures.prunable(fixtures.of(method)), method, chosen, **settings)


def brief(method) -> dict:
    return {name: value for name, value in BRIEF.items() if name in method.keywords}


@searches
def test_asked_is_planned_is_got(method):
    prunable, plan = fixtures.prunable(fixtures.of(method)), planned(method)
    (term,) = plan.asked.terms
    assert 0 < plan.planned[term.quantity] <= term.limit(plan.dense[term.quantity])
    small = prunable.apply(plan)
    assert torch.isfinite(small(fixtures.draw(2, 1, 16, 16))).all()
    if method.unit in ("channels", "ranks"):
        assert plan.planned["params"] == sum(p.numel() for p in small.parameters())
    assert plan.provenance["method"] == method.id and plan.fingerprint == prunable.fingerprint()


@searches
def test_bytes_depend_on_nothing_but_data_and_seed(method, tmp_path):
    first = contents(planned(method), tmp_path / "first")
    with threads(1):
        assert contents(planned(method, prunable=fixtures.fresh(fixtures.of(method))), tmp_path / "again") == first


@searches
def test_planning_changes_nothing(method):
    fresh = fixtures.fresh(fixtures.of(method))
    with untouched(fresh.model):
        plan = planned(method, prunable=fresh)
    fresh.apply(plan)
    assert fresh.model(fixtures.draw(2, 1, 16, 16)).requires_grad


@searches
def test_files_hold_all_of_it(method, tmp_path):
    plan = planned(method)
    round_trip(plan, tmp_path / "plan")
    x, apply = fixtures.draw(2, 1, 16, 16), fixtures.prunable(fixtures.of(method)).apply
    torch.testing.assert_close(apply(Plan.load(tmp_path / "plan"))(x), apply(plan)(x), rtol=0, atol=0)


@searches
def test_extreme_budgets(method):
    whole = planned(method, f"100% {HALF[method.unit].split()[1]}")
    assert whole.removes_nothing
    with pytest.raises(BudgetUnreachable) as caught:
        planned(method, f"0% {HALF[method.unit].split()[1]}")
    assert caught.value.nearest


@searches
def test_rows_it_needs_are_asked_for_and_test_rows_refused(method):
    function = method.load()
    given = [name for name in ("probe", "fit", "signals", "measure") if asks_for(function, name)]
    if all(does_without(function, name) for name in given):
        return
    with pytest.raises(BadInput, match="data="):
        planned(method, data=None)
    with pytest.raises(SplitError):
        planned(method, data=fixtures.dataset(role="test"))
    fresh = fixtures.fresh(fixtures.of(method))
    with torch.no_grad():
        next(iter(fresh.model.parameters())).fill_(float("nan"))
    with pytest.raises(NonFinite):
        planned(method, prunable=fresh)


@searches
def test_unknown_options_are_refused(method):
    with pytest.raises(BadInput, match="no option"):
        planned(method, options={"nonsense": 1})
    assert np.all([len(group.index()) for group in planned(method).groups.values()])
