"""Contract of criteria over layers, on 16 blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import every
from contract.checks import contents, round_trip, score_round_trip, threads, untouched
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.plan import Plan
from prunus.core.score import Score
from prunus.flow.layers import plan_layers, score_layers
from prunus.signals.modules import ModuleSignals, ModuleStats

UNIT = "layers"
criteria = every("criterion", UNIT)


def planned(method, budget="50% layers", prunable=None, **settings) -> Plan:
    settings = {"signals": fixtures.measured(UNIT), **settings}
    return plan_layers(prunable or fixtures.prunable(UNIT), method, Budget.parse(budget), **settings)


@criteria
def test_one_finite_number_for_each_block(method):
    score = score_layers(fixtures.prunable(UNIT), method.id, signals=fixtures.measured(UNIT))
    assert {name: len(values) for name, values in score.values.items()} == {"blocks": 16}
    score.check()


@criteria
def test_plan_bytes_depend_on_nothing_but_signals(method, fresh, tmp_path):
    first = contents(planned(method), tmp_path / "first")
    stored = ModuleSignals.load(fixtures.measured(UNIT).save(tmp_path / "signals"))
    with threads(2):
        assert contents(planned(method, prunable=fresh, signals=stored), tmp_path / "again") == first


@criteria
@pytest.mark.parametrize(("budget", "count"), [("50% layers", 8), ("15 layers", 15), ("drop 10 layers", 6)])
def test_asked_is_planned_is_got(method, budget, count):
    plan = planned(method, budget)
    small = fixtures.prunable(UNIT).apply(plan)
    assert plan.planned["layers"] == count == len(small.blocks)
    assert torch.isfinite(small(fixtures.draw(2, 1, 16, 16))).all()


@criteria
def test_extreme_budgets(method):
    whole = planned(method, "100% layers")
    assert whole.removes_nothing and not whole.edits
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 1 layers"):
        planned(method, "0% layers")
    one = planned(method, "1 layers")
    assert one.planned["layers"] == len(fixtures.prunable(UNIT).apply(one).blocks) == 1


@criteria
def test_equal_scores_are_ties_and_the_lower_ids_stay(method):
    equal = Score(UNIT, {"blocks": np.ones(16)}, "keep")
    np.testing.assert_array_equal(planned(method, score=equal).keep("blocks"), np.arange(8))


@criteria
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(method, fresh, wrong):
    if not method.needs:
        return
    measured = fixtures.measured(UNIT)
    wrong_ones = {name: torch.full_like(value, wrong) for name, value in measured["blocks.5"].fields.items()}
    stats = dict(measured.items()) | {"blocks.5": ModuleStats("blocks.5", wrong_ones)}
    with pytest.raises(NonFinite, match=r"blocks"):
        score_layers(fixtures.prunable(UNIT), method.id, signals=ModuleSignals(stats))
    with torch.no_grad():
        fresh.model.blocks[5].inner.weight[0] = float("nan")
    with pytest.raises(NonFinite, match=r"blocks"):
        planned(method, prunable=fresh, signals=None, data=fixtures.dataset())


@criteria
def test_planning_changes_nothing(method, fresh):
    with untouched(fresh.model):
        fresh.apply(planned(method, prunable=fresh, signals=None, data=fixtures.dataset()))


@criteria
def test_files_hold_all_of_it(method, tmp_path):
    score_round_trip(
        score_layers(fixtures.prunable(UNIT), method.id, signals=fixtures.measured(UNIT)), tmp_path / "score"
    )  # fmt: skip
    plan = planned(method)
    round_trip(plan, tmp_path / "plan")
    x, apply = fixtures.draw(2, 1, 16, 16), fixtures.prunable(UNIT).apply
    torch.testing.assert_close(apply(Plan.load(tmp_path / "plan"))(x), apply(plan)(x), rtol=0, atol=0)


@criteria
def test_what_is_missing_is_named(method):
    if method.needs:
        with pytest.raises(BadInput, match="data="):
            planned(method, signals=None)
