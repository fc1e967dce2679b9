"""PreCropping: budgets are met, densities add up, groups agree, and a new initialisation is one of the cut network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunus.channels.precropping import synflow_densities, writers_of
from prunus.channels.widths import by_root, water_filling
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName
from prunus.core.registry import find
from prunus.flow.search import plan_search
from prunus.graph.trace import run
from prunus.prunables.model import ModelPrunable
from prunus.signals.synflow import Flow
from prunus.train.initialise import initialise
from prunus.train.models import CifarResNet, seeded


@pytest.fixture(scope="module")
def prunable():
    return ModelPrunable(seeded(CifarResNet, 0, depth=8, width=8), torch.zeros(1, 3, 8, 8))


def planned(prunable, budget, **options):
    return plan_search(prunable, find("channels/precropping"), Budget.parse(budget), options=options)


@pytest.mark.parametrize("source", ["waterfill", "uniform", "erk", "synflow"])
@pytest.mark.parametrize("budget", ["40% params", "50% macs", "60% channels"])
def test_budgets_are_met(prunable, source, budget):
    plan = planned(prunable, budget, source=source, rounds=5)
    quantity = budget.split()[1]
    share = plan.planned[quantity] / plan.dense[quantity]
    asked = float(budget.split("%")[0]) / 100
    assert asked - 0.08 <= share <= asked  # 8 channels a stage: steps are coarse
    small = plan.apply(prunable.model)
    assert sum(p.numel() for p in small.parameters()) == plan.planned["params"] or quantity != "params"
    assert small(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_everything_stays_at_density_one(prunable):
    names = list(writers_of(prunable))
    plan = planned(prunable, "100% params", densities=dict.fromkeys(names, 1.0))
    assert plan.removes_nothing
    with pytest.raises(UnknownName, match="convx"):
        planned(prunable, "50% params", densities={"convx": 0.5})
    with pytest.raises(BudgetUnreachable, match="nearest"):
        planned(prunable, "0.1% params")
    for name, value in (("rule", "cubic"), ("reduce", "median"), ("source", "guess")):
        with pytest.raises(UnknownName):
            planned(prunable, "50% params", **{name: value})


@pytest.mark.parametrize("reduce", ["mean", "max", "min"])
def test_groups_of_several_writers_take_one_width(prunable, reduce):
    names = list(writers_of(prunable))
    stage = [name for name in names if writers_of(prunable)[name].group == "conv1.weight:0"]
    uneven = {name: 0.25 if name == stage[0] else 1.0 for name in names}
    counts = {how: planned(prunable, "80% channels", densities=uneven, reduce=how) for how in ("mean", "max", "min")}
    widths = {how: plan.groups["conv1.weight:0"].count for how, plan in counts.items()}
    assert widths["min"] <= widths[reduce] <= widths["max"]


def test_widths_grow_with_density_and_stay_inside():
    found = [int(by_root([20], [share], 2)[0]) for share in (0.001, 0.04, 0.25, 0.81, 1.0)]
    assert found == [2, 4, 10, 18, 20]
    assert by_root([20], [1.44])[0] == 24
    for share in (0.0, float("nan")):
        with pytest.raises(BadInput, match="densities"):
            by_root([20], [share])


def test_water_filling_keeps_small_layers_dense():
    assert water_filling([10, 100, 1000], 210).tolist() == pytest.approx([1.0, 1.0, 0.1])
    assert water_filling([10, 100], 110).tolist() == [1, 1]
    assert water_filling([10, 100], 60, most=2.0).tolist() == pytest.approx([2.0, 0.4])
    with pytest.raises(BudgetUnreachable):
        water_filling([10, 100], 111)


def test_synaptic_flow_is_conserved_over_layers_and_survives_overflow():
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))
    scores = Flow(net, torch.zeros(1, 4), run).scores()
    totals = [float(scores[name].sum()) for name in ("0.weight", "2.weight")]
    expected = (net[2].weight.abs() @ net[0].weight.abs()).sum().detach()
    assert totals == pytest.approx([float(expected)] * 2, rel=1e-5)
    deep = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(8)))
    for layer in deep:
        nn.init.constant_(layer.weight, 1e6)
    assert Flow(deep, torch.zeros(1, 4), run).scores()["0.weight"].dtype == torch.float64
    shares = synflow_densities(Flow(net, torch.zeros(1, 4), run), ["0.weight", "2.weight"], 0.5, 3)
    assert shares["0.weight"] * 24 + shares["2.weight"] * 18 == pytest.approx(21, abs=1)


def test_a_new_initialisation_depends_on_the_seed_and_fits_the_new_widths(prunable):
    small = planned(prunable, "30% params").apply(prunable.model)
    first = {name: p.clone() for name, p in initialise(small, 1).named_parameters()}
    assert all(torch.equal(first[n], p) for n, p in initialise(small, 1).named_parameters())
    other = dict(initialise(small, 2).named_parameters())
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert not small.bn1.running_mean.any()
    bare = nn.Module()
    bare.table = nn.Parameter(torch.ones(2))
    with pytest.raises(BadInput, match="reset_parameters"):
        initialise(bare)
