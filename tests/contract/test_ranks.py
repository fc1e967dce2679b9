"""Contract of solvers over ranks: parts that add up to the weight, and what the factored model really costs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import draws, every
from contract.checks import contents, generators_alone, round_trip, threads, untouched
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.plan import Plan
from prunus.core.rng import Rng
from prunus.flow.controls import random_like
from prunus.flow.ranks import plan_ranks
from prunus.prunables.model import ModelPrunable
from prunus.signals.modules import ModuleSignals

UNIT = "ranks"
solvers = every("solver", UNIT)


def planned(method, budget="60% params", prunable=None, **settings) -> Plan:
    settings = {"signals": fixtures.measured(UNIT), **settings}
    return plan_ranks(prunable or fixtures.prunable(UNIT), method, Budget.parse(budget), **settings)


def counted(model) -> dict[str, float]:
    """Of a model as it is: parameters one by one, MACs recorded anew."""
    macs = ModelPrunable(model, fixtures.EXAMPLE).cost()["macs"]
    return {"params": float(sum(p.numel() for p in model.parameters())), "macs": macs}


@solvers
def test_all_parts_together_are_the_weight(method):
    weight = fixtures.draw(1, 6, 9, seed=3).double()
    inputs = fixtures.draw(256, 9, seed=6).double()
    matrix = SimpleNamespace(name="m.weight", weight=weight.clone(), hessian=inputs.T @ inputs)
    given = {"rng": Rng(0, "contract")} if draws(method) else {}
    with generators_alone():
        parts = method.load()(matrix, **given)
    assert parts.scores.shape == (6,) and torch.isfinite(parts.scores).all()
    torch.testing.assert_close(parts.left @ parts.right, weight, rtol=1e-9, atol=1e-9)
    assert torch.equal(matrix.weight, weight)


@solvers
@pytest.mark.parametrize("budget", ["60% params", "50% macs", "70% ranks", "60% params and 70% macs"])
def test_asked_is_planned_is_got(method, budget):
    prunable = fixtures.prunable(UNIT)
    plan = planned(method, budget)
    small = prunable.apply(plan)
    got = counted(small)
    assert {name: plan.planned[name] for name in got} == got
    assert plan.planned["ranks"] == sum(one.count for one in plan.groups.values())
    assert plan.dense == {**counted(prunable.model), "ranks": sum(one.size for one in plan.groups.values())}
    for term in plan.asked.terms:
        assert plan.planned[term.quantity] <= term.limit(plan.dense[term.quantity])
    x = fixtures.draw(2, 1, 16, 16)
    torch.testing.assert_close(prunable.apply(plan, mode="mask")(x), small(x), rtol=1e-4, atol=1e-5)
    assert {name for name, one in plan.groups.items() if one.count < one.size} == {
        f"{edit.module}.weight" for edit in plan.edits
    }


@solvers
def test_plan_bytes_depend_on_nothing_but_signals(method, fresh, tmp_path):
    first = contents(planned(method), tmp_path / "first")
    stored = ModuleSignals.load(fixtures.measured(UNIT).save(tmp_path / "signals"))
    with threads(2):
        assert contents(planned(method, prunable=fresh, signals=stored), tmp_path / "again") == first


@solvers
def test_extreme_budgets(method):
    whole = planned(method, "100% params")
    assert whole.removes_nothing and not whole.edits and whole.planned == whole.dense
    with pytest.raises(BudgetUnreachable) as caught:
        planned(method, "0% params")
    assert caught.value.nearest
    share = float(caught.value.nearest.split("%")[0])
    least = planned(method, f"{share + 0.1:.4f}% params")
    assert all(one.count >= 1 for one in least.groups.values())


@solvers
def test_a_pinned_weight_stays_dense(method):
    budget = Budget.parse("70% params", pin=("last.weight",))
    plan = plan_ranks(fixtures.prunable(UNIT), method, budget, signals=fixtures.measured(UNIT))
    assert "last.weight" not in plan.groups
    assert type(fixtures.prunable(UNIT).apply(plan).last) is torch.nn.Linear


@solvers
def test_a_constant_model_is_planned(method, constant):
    plan = planned(method, prunable=constant, signals=None, data=fixtures.dataset())
    small = constant.apply(plan).eval()
    x = fixtures.draw(2, 1, 16, 16)
    assert torch.isfinite(small(x)).all()
    if not draws(method):  # a constant weight has rank 1
        torch.testing.assert_close(small(x), constant.model.eval()(x), rtol=1e-4, atol=1e-5)


@solvers
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(method, fresh, wrong):
    with torch.no_grad():
        fresh.model.hidden.weight[3, 0] = wrong
    with pytest.raises(NonFinite, match="hidden"):
        planned(method, prunable=fresh)


@solvers
def test_planning_changes_nothing(method, fresh):
    fresh.model.conv1.requires_grad_(False)
    with untouched(fresh.model):
        small = fresh.apply(planned(method, "40% params", prunable=fresh, signals=None, data=fixtures.dataset()))
    assert isinstance(small.hidden, torch.nn.Sequential) and small.hidden[0].weight.requires_grad
    assert not any(p.requires_grad for p in small.conv1.parameters())


@solvers
def test_files_hold_all_of_it(method, tmp_path):
    plan = planned(method)
    round_trip(plan, tmp_path / "plan")
    x, model = fixtures.draw(2, 1, 16, 16), fixtures.model(UNIT)
    torch.testing.assert_close(Plan.load(tmp_path / "plan").apply(model)(x), plan.apply(model)(x), rtol=0, atol=0)


@solvers
def test_its_control_keeps_as_many_ranks(method):
    prunable, plan = fixtures.prunable(UNIT), planned(method)
    control = random_like(plan, 1, prunable=prunable)
    assert {n: k.count for n, k in control.groups.items()} == {n: k.count for n, k in plan.groups.items()}
    assert counted(prunable.apply(control)) == counted(prunable.apply(plan))
    assert any(not np.array_equal(control.keep(name), np.arange(len(control.keep(name)))) for name in control.groups)


@solvers
def test_what_is_missing_is_named(method):
    if {*method.needs} - {"weight"}:
        with pytest.raises(BadInput, match="data="):
            planned(method, signals=None)
