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
from prunus.flow.weights import plan_weights, score_weights
from prunus.prunables.model import ModelPrunable
from prunus.signals.modules import ModuleSignals

UNIT = "weights"
both = pytest.mark.parametrize("method", [*every("criterion", UNIT).args[1], *every("solver", UNIT).args[1]])
WITHIN = ("group", "output", "all", "2:4")


def planned(method, budget="50% weights", prunable=None, **settings) -> Plan:
    settings = {"signals": fixtures.measured(UNIT), "tail": "dense", **settings}
    if method.kind == "solver":
        settings.pop("within", None) if settings.get("within") in ("output", "all") else None
    prunable = prunable or fixtures.prunable(UNIT)
    return plan_weights(prunable, method, Budget.parse(budget), **settings)


def pruned_sizes(model) -> dict[str, int]:
    return {g.name: g.size for g in ModelPrunable(model, fixtures.EXAMPLE).groups(UNIT)}


@every("criterion", UNIT)
def test_one_finite_number_for_each_weight(method):
    score = score_weights(fixtures.prunable(UNIT), method, signals=fixtures.measured(UNIT))
    sizes = pruned_sizes(fixtures.prunable(UNIT).model)
    assert tuple(score.values) == tuple(sizes)
    for name, size in sizes.items():
        values = score.values[name]
        weight = fixtures.prunable(UNIT).model.get_parameter(name)
        assert values.shape == (weight.shape[0], size // weight.shape[0])
        assert values.dtype.kind == "f" and torch.isfinite(torch.from_numpy(values)).all()
    with pytest.raises(BadInput, match="never written"):
        score.save("nowhere")


@both
def test_plan_bytes_depend_on_nothing_but_signals(method, tmp_path):
    first = contents(planned(method), tmp_path / "first")
    again = ModelPrunable(fixtures.model(UNIT), fixtures.EXAMPLE)
    stored = ModuleSignals.load(fixtures.measured(UNIT).save(tmp_path / "signals"))
    with threads(2):
        assert contents(planned(method, prunable=again, signals=stored), tmp_path / "again") == first


@both
@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.filterwarnings("ignore:scores of")
def test_asked_is_planned_is_got(method, within):
    model = fixtures.model(UNIT)
    if within == "2:4":
        plan = planned(method, "2:4", layers="all") if method.kind == "criterion" else _solved(method)
    else:
        plan = planned(method, "50% weights", within=within)
    sparse = plan.apply(model)
    kept = sum(int(sparse.get_parameter(name).count_nonzero()) for name in plan.groups)
    assert kept == plan.planned["weights"] == sum(one.count for one in plan.groups.values())
    assert plan.dense["weights"] == sum(pruned_sizes(model)[name] for name in plan.groups)
    step = max(one.size for one in plan.groups.values()) ** 0.5
    if within != "2:4":
        asked = 0.5 * plan.dense["weights"]
        assert abs(kept - asked) <= max(0.01 * plan.dense["weights"], step)
    assert torch.isfinite(sparse(fixtures.draw(2, 1, 16, 16))).all()


def _solved(method) -> Plan:
    """N:M of the matrices whose inputs fill groups: the first convolution has one input channel."""
    try:
        return planned(method, "2:4")
    except BadInput as error:
        assert "conv1" in str(error)
    deep = ModelPrunable(fixtures.vit(), fixtures.EXAMPLE)
    signals = None
    return plan_weights(
        deep, method, Budget.parse("2:4"), signals=signals, data=fixtures.dataset(), layers="blocks"
    )  # fmt: skip


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
def test_a_constant_model_keeps_exact_counts(method):
    model = fixtures.model(UNIT)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    prunable = ModelPrunable(model, fixtures.EXAMPLE)
    plan = planned(method, prunable=prunable)
    again = planned(method, prunable=ModelPrunable(model, fixtures.EXAMPLE))
    assert plan.hash() == again.hash()
    for name, one in plan.groups.items():
        assert abs(one.count - one.size / 2) <= model.get_parameter(name).shape[0]


@both
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(method, wrong):
    if not method.needs or method.name == "random":
        return
    model = fixtures.model(UNIT)
    with torch.no_grad():
        model.conv2.weight[3, 0] = wrong
    prunable = ModelPrunable(model, fixtures.EXAMPLE)
    with pytest.raises(NonFinite, match=r"conv2"):
        planned(method, prunable=prunable)
    if {*method.needs} - {"weight", "bias"}:
        with pytest.raises(NonFinite):
            planned(method, prunable=prunable, signals=None, data=fixtures.dataset())


@both
def test_planning_changes_nothing(method):
    model = fixtures.model(UNIT).train()
    model.conv1.requires_grad_(False)
    with untouched(model):
        plan = planned(method, prunable=ModelPrunable(model, fixtures.EXAMPLE), signals=None, data=fixtures.dataset())
        sparse = plan.apply(model)
    assert not sparse.conv1.weight.requires_grad and sparse.conv2.weight.requires_grad
    assert list(sparse.state_dict()) == list(model.state_dict())


@both
def test_files_hold_all_of_it(method, tmp_path):
    plan = planned(method)
    round_trip(plan, tmp_path / "plan")
    x, model = fixtures.draw(2, 1, 16, 16), fixtures.model(UNIT).eval()
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
