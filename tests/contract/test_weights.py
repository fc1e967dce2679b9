"""Contract of criteria and solvers over weights. Scores are as large as the model, so none is ever checked whole."""

from __future__ import annotations

import pytest
import torch

from contract import fixtures
from contract.catalogue import every
from contract.checks import contents, round_trip, threads, untouched
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.plan import Plan
from prunus.flow.matrices import score_weights
from prunus.flow.weights import plan_weights
from prunus.signals.modules import ModuleSignals

UNIT = "weights"
both = pytest.mark.parametrize("method", [*every("criterion", UNIT).args[1], *every("solver", UNIT).args[1]])
WITHIN = ("group", "output", "all")


def planned(method, budget="50% weights", prunable=None, **settings) -> Plan:
    settings = {"signals": fixtures.measured(UNIT), "tail": "dense", **settings}
    if method.kind == "solver" and settings.get("within") in ("output", "all"):
        settings.pop("within")  # solvers prune matrix by matrix
    return plan_weights(prunable or fixtures.prunable(UNIT), method, Budget.parse(budget), **settings)


def sizes_of(prunable) -> dict[str, int]:
    return {group.name: group.size for group in prunable.groups(UNIT)}


@every("criterion", UNIT)
def test_one_finite_number_for_each_weight(method):
    score = score_weights(fixtures.prunable(UNIT), method, signals=fixtures.measured(UNIT))
    sizes = sizes_of(fixtures.prunable(UNIT))
    assert tuple(score.values) == tuple(sizes)
    for name, size in sizes.items():
        values = score.values[name]
        weight = fixtures.prunable(UNIT).model.get_parameter(name)
        assert values.shape == (weight.shape[0], size // weight.shape[0])
        assert values.dtype.kind == "f" and torch.isfinite(torch.from_numpy(values)).all()
    with pytest.raises(BadInput, match="never written"):
        score.save("nowhere")


@both
def test_plan_bytes_depend_on_nothing_but_signals(method, fresh, tmp_path):
    first = contents(planned(method), tmp_path / "first")
    stored = ModuleSignals.load(fixtures.measured(UNIT).save(tmp_path / "signals"))
    with threads(2):
        assert contents(planned(method, prunable=fresh, signals=stored), tmp_path / "again") == first


@both
@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.filterwarnings("ignore:scores of")
def test_asked_is_planned_is_got(method, within):
    prunable = fixtures.prunable(UNIT)
    plan = planned(method, "50% weights", within=within)
    sparse = prunable.apply(plan)
    kept = sum(int(sparse.get_parameter(name).count_nonzero()) for name in plan.groups)
    assert kept == plan.planned["weights"] == sum(one.count for one in plan.groups.values())
    assert plan.dense["weights"] == sum(sizes_of(prunable).values())
    asked = 0.5 * plan.dense["weights"]
    assert abs(kept - asked) <= max(0.01 * plan.dense["weights"], max(len(p) for p in sparse.parameters()))
    assert torch.isfinite(sparse(fixtures.draw(2, 1, 16, 16))).all()


@both
def test_two_of_four(method):
    plan = planned(method, "2:4") if method.kind == "criterion" else None
    if plan is None:  # a solver does not leave matrices dense: the first convolution reads one channel
        with pytest.raises(BadInput, match="conv1"):
            planned(method, "2:4")
        return
    for name, one in plan.groups.items():
        lines = one.mask().reshape(len(fixtures.prunable(UNIT).model.get_parameter(name)), -1)
        assert lines.all() if name.startswith("conv1") else (lines.reshape(-1, 4).sum(1) == 2).all()


@both
def test_extreme_budgets(method):
    whole = planned(method, "100% weights")
    assert whole.removes_nothing and whole.planned == whole.dense
    with pytest.raises(BudgetUnreachable) as caught:
        planned(method, "0% weights")
    assert caught.value.nearest
    tiny = planned(method, "2% weights")
    assert all(one.count >= 1 for one in tiny.groups.values())


@both
def test_a_constant_model_keeps_exact_counts(method, constant):
    plan = planned(method, prunable=constant, within="group")
    assert plan.hash() == planned(method, prunable=constant, within="group").hash()
    for one in plan.groups.values():
        assert one.count == one.size / 2


@both
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(method, fresh, wrong):
    if not method.needs or method.name == "random":
        return
    with torch.no_grad():
        fresh.model.hidden.weight[3, 0] = wrong
    with pytest.raises(NonFinite, match=r"hidden"):
        planned(method, prunable=fresh)
    if {*method.needs} - {"weight", "bias"}:
        with pytest.raises(NonFinite):
            planned(method, prunable=fresh, signals=None, data=fixtures.dataset())


@both
def test_planning_changes_nothing(method, fresh):
    fresh.model.conv1.requires_grad_(False)
    with untouched(fresh.model):
        sparse = fresh.apply(planned(method, prunable=fresh, signals=None, data=fixtures.dataset()))
    assert not sparse.conv1.weight.requires_grad and sparse.hidden.weight.requires_grad
    assert list(sparse.state_dict()) == list(fresh.model.state_dict())


@both
def test_files_hold_all_of_it(method, tmp_path):
    plan = planned(method)
    round_trip(plan, tmp_path / "plan")
    x, model = fixtures.draw(2, 1, 16, 16), fixtures.model(UNIT)
    torch.testing.assert_close(Plan.load(tmp_path / "plan").apply(model)(x), plan.apply(model)(x), rtol=0, atol=0)


@both
def test_what_is_missing_is_named(method):
    if {*method.needs} - {"weight", "bias"}:
        with pytest.raises(BadInput, match="data="):
            planned(method, signals=None)


@every("solver", UNIT)
def test_solver_returns_mask_and_weights(method):
    layer = fixtures.layer()
    before = {name: value.clone() for name, value in vars(layer).items() if isinstance(value, torch.Tensor)}
    mask, new = method.load()(layer, 32)
    assert mask.shape == new.shape == (8, 8) and mask.dtype == bool and mask.sum() == 32
    assert (new[~mask] == 0).all() and torch.isfinite(torch.from_numpy(new)).all()
    for name, value in before.items():
        assert torch.equal(getattr(layer, name), value), f"{name} was changed"
    pattern, _ = method.load()(layer, (2, 4))
    assert (pattern.reshape(-1, 4).sum(1) == 2).all()
