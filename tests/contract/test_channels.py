"""Contract of criteria over channels: scores, plans, and what the cut model really costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import every
from contract.checks import contents, round_trip, score_round_trip, threads, untouched
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.files import dump_json
from prunus.core.plan import Plan
from prunus.core.score import Score
from prunus.flow.channels import plan_channels, score_channels
from prunus.prunables.model import ModelPrunable
from prunus.signals.modules import ModuleSignals

UNIT = "channels"


def scored(method, prunable=None) -> Score:
    return score_channels(prunable or fixtures.prunable(UNIT), method.id, signals=fixtures.measured(UNIT))


def planned(method, budget="50% macs", prunable=None, **settings) -> Plan:
    settings = {"signals": fixtures.measured(UNIT), **settings}
    return plan_channels(prunable or fixtures.prunable(UNIT), method.id, budget, **settings)


def counted(model) -> dict[str, float]:
    """Of a model as it is: parameters one by one, MACs recorded anew."""
    found = ModelPrunable(model, fixtures.EXAMPLE)
    return {"params": float(sum(p.numel() for p in model.parameters())), "macs": found.cost()["macs"]}


@every("criterion", UNIT)
def test_one_finite_number_for_each_channel(method):
    score, groups = scored(method), fixtures.prunable(UNIT).groups(UNIT)
    assert {name: len(values) for name, values in score.values.items()} == {g.name: g.size for g in groups}
    assert {g.size for g in groups} == {8, 64}
    score.check()
    dump_json(dict(score.provenance))


@every("criterion", UNIT)
def test_plan_bytes_depend_on_nothing_but_signals(method, fresh, tmp_path):
    first = contents(planned(method), tmp_path / "first")
    stored = ModuleSignals.load(fixtures.measured(UNIT).save(tmp_path / "signals"))
    with threads(2):
        assert contents(planned(method, prunable=fresh, signals=stored), tmp_path / "again") == first
    assert contents(planned(method, score=scored(method)), tmp_path / "score") == first


@every("criterion", UNIT)
@pytest.mark.parametrize("budget", ["50% macs", "60% params", "80% channels", "60% params and 50% macs"])
def test_asked_is_planned_is_got(method, budget):
    prunable = fixtures.prunable(UNIT)
    plan = planned(method, budget)
    small = prunable.apply(plan)
    added = sum(edit.value.size for edit in plan.edits if type(edit).__name__ == "AddBias" and _new_bias(edit, small))
    got = counted(small)
    assert got["params"] - added == plan.planned["params"] and got["macs"] == plan.planned["macs"]
    assert plan.planned["channels"] == sum(kept.count for kept in plan.groups.values())
    slack = {name: _one_step(plan, name) for name in plan.planned}
    over = {t.quantity: plan.planned[t.quantity] - t.limit(plan.dense[t.quantity]) for t in plan.asked.terms}
    assert all(value <= 0 for value in over.values())
    assert any(-value <= max(0.01 * plan.dense[name], slack[name]) for name, value in over.items())
    assert torch.isfinite(small(fixtures.draw(2, 1, 16, 16))).all()


def _new_bias(edit, small) -> bool:
    return getattr(fixtures.prunable(UNIT).model.get_submodule(edit.module), "bias", None) is None


def _one_step(plan: Plan, quantity: str) -> float:
    """What the dearest unit of any group costs."""
    prunable, counts = fixtures.prunable(UNIT), {name: kept.count for name, kept in plan.groups.items()}
    more = [{**counts, g.name: counts[g.name] + 1} for g in prunable.groups(UNIT) if counts[g.name] < g.size]
    return max(prunable.count(sizes)[quantity] - plan.planned[quantity] for sizes in more)


@every("criterion", UNIT)
def test_extreme_budgets(method):
    whole = planned(method, "100% macs")
    assert whole.removes_nothing and not whole.edits and whole.planned == whole.dense
    for budget in ("0% macs", "1% params"):
        with pytest.raises(BudgetUnreachable) as caught:
            planned(method, budget)
        assert caught.value.nearest
    least = planned(method, caught.value.nearest.replace(caught.value.nearest.split("%")[0], "30"))
    assert all(kept.count >= 1 for kept in least.groups.values())


@every("criterion", UNIT)
def test_equal_scores_are_ties_and_the_lower_ids_stay(method):
    score = scored(method)
    equal = Score(UNIT, {name: np.ones(len(v)) for name, v in score.values.items()}, score.sense, None, "", {})
    for kept in planned(method, score=equal, normalise="none", compensate="none").groups.values():
        np.testing.assert_array_equal(kept.index(), np.arange(kept.count))


@every("criterion", UNIT)
def test_a_constant_model_is_planned(method, constant):
    score_channels(constant, method.id, signals=fixtures.measured(UNIT)).check()
    assert torch.isfinite(constant.apply(planned(method, prunable=constant)).eval()(fixtures.draw(2, 1, 16, 16))).all()


@every("criterion", UNIT)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(method, fresh, wrong):
    if not method.needs:
        return
    with torch.no_grad():
        fresh.model.hidden.weight[3] = wrong
    if "weight" in method.needs:  # others read what was measured only
        with pytest.raises(NonFinite, match=r"conv1|hidden"):
            score_channels(fresh, method.id, signals=fixtures.measured(UNIT))
    if {*method.needs} - {"weight", "bias"}:
        with pytest.raises(NonFinite):
            plan_channels(fresh, method.id, "50% macs", data=fixtures.dataset())


@every("criterion", UNIT)
def test_planning_changes_nothing(method, fresh):
    fresh.model.conv1.requires_grad_(False)
    with untouched(fresh.model):
        fresh.apply(plan_channels(fresh, method.id, "50% macs", data=fixtures.dataset()))
    assert fresh.model(fixtures.draw(2, 1, 16, 16)).requires_grad


@every("criterion", UNIT)
def test_files_hold_all_of_it(method, tmp_path):
    score_round_trip(scored(method), tmp_path / "score")
    plan = planned(method)
    round_trip(plan, tmp_path / "plan")
    x, apply = fixtures.draw(2, 1, 16, 16), fixtures.prunable(UNIT).apply
    torch.testing.assert_close(apply(Plan.load(tmp_path / "plan"))(x), apply(plan)(x), rtol=0, atol=0)


@every("criterion", UNIT)
def test_what_is_missing_is_named(method):
    needs = {*method.needs} - {"weight", "bias"}
    if needs:
        with pytest.raises(BadInput, match="data="):
            planned(method, signals=None)
