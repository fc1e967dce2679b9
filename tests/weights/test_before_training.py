"""Criteria before training, densities that are decided first, and searches of masks: what the papers say must hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName
from prunus.graph.trace import run
from prunus.signals.synflow import Flow, flow_masks


class Plain(nn.Module):
    """Bias-free convolutions and a linear layer, with sums over space: what synaptic flow conserves."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.fc = nn.Linear(8, 4, bias=False)

    def forward(self, x):
        return self.fc(self.c2(self.c1(x).relu()).relu().mean((2, 3)))


class Turned(nn.Module):
    """A linear layer stored as [in, out]."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.nf, self.weight = outputs, nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x):
        return x @ self.weight


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain().eval()


@pytest.fixture(scope="module")
def data():
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(32) % 4


EXAMPLE = torch.zeros(1, 1, 8, 8)


def counts(plan):
    return {name: one.count for name, one in plan.groups.items()}


def test_flow_is_conserved_needs_no_signs_and_no_data(net):
    first = Flow(net, EXAMPLE, run).scores()
    sums = [float(score.double().sum()) for score in first.values()]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    incoming, outgoing = first["c2.weight"].sum((1, 2, 3)), first["fc.weight"].sum(0)
    torch.testing.assert_close(incoming, outgoing, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        net.c1.weight.neg_()
        net.c2.weight.mul_(4)
        net.fc.weight.div_(4)
    second = Flow(net, torch.randn_like(EXAMPLE), run).scores()
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-6)


def test_running_means_do_not_stop_the_flow():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    net[1].running_mean.fill_(1e6)
    found = Flow(net, EXAMPLE, run).scores()
    assert all(float(found[name].sum()) > 0 for name in ("0.weight", "1.weight", "4.weight"))


def test_iterations_keep_layers_that_one_shot_empties(net):
    flow = Flow(net, EXAMPLE, run)
    names = ["c1.weight", "c2.weight", "fc.weight"]
    size = sum(net.get_parameter(name).numel() for name in names)
    stays = {rounds: flow_masks(flow, names, 12 / size, rounds=rounds) for rounds in (1, 100)}
    assert all(sum(int(mask.sum()) for mask in masks.values()) == 12 for masks in stays.values())
    assert min(int(mask.sum()) for mask in stays[100].values()) >= 1
    alive = net(EXAMPLE + 1).abs().sum()
    plan = px.plan(net, "synflow", "12 weights", example=EXAMPLE, floor=0)
    assert alive > 0 and plan.apply(net)(EXAMPLE + 1).abs().sum() > 0
    guarded = px.plan(net, "synflow", "60 weights", example=EXAMPLE, rounds=1, minimum=2)
    assert min(counts(guarded).values()) >= int(size * 0.02)


@pytest.mark.filterwarnings("ignore:scores of")
def test_snip_ranks_alike_when_layers_are_rescaled_and_magnitude_does_not(net, data):
    before = px.plan(net, "snip", "20% weights", data=data), px.plan(net, "magnitude", "20% weights", within="all")
    with torch.no_grad():
        net.c1.weight.mul_(8)
        net.c2.weight.div_(8)
    after = px.plan(net, "snip", "20% weights", data=data), px.plan(net, "magnitude", "20% weights", within="all")
    assert counts(before[0]) == counts(after[0])
    assert counts(before[1]) != counts(after[1])


def test_grasp_is_half_the_growth_of_the_squared_gradient(net, data):
    """sum(w * Hg) is the derivative of |g|^2 / 2 along w, so scaling all weights by 1 + e moves it by e times the sum."""
    net = net.double()
    rows = (data[0].double(), data[1])

    def squared(scale):
        weights = [parameter * scale for parameter in net.parameters()]
        named = dict(zip([name for name, _ in net.named_parameters()], weights))
        loss = nn.functional.cross_entropy(torch.func.functional_call(net, named, (rows[0],)), rows[1])
        return float(sum(g.square().sum() for g in torch.autograd.grad(loss, weights)).detach())

    found = px.collect(net, rows, "hessian_gradient", temperature=1.0).modules
    total = sum(
        float((p.detach() * found[n.removesuffix(".weight")].hessian_gradient).sum()) for n, p in net.named_parameters()
    )
    step = 1e-5
    assert total == pytest.approx((squared(1 + step) - squared(1 - step)) / (4 * step), rel=1e-5)


def test_gradients_follow_a_weight_that_is_stored_the_other_way_round(data):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        turned = nn.Sequential(nn.Flatten(), Turned(64, 4)).eval()
    straight = nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False)).eval()
    with torch.no_grad():
        straight[1].weight.copy_(turned[1].weight.T)
    for method in ("snip", "grasp"):
        plans = [px.plan(one, method, "20% weights", data=data) for one in (turned, straight)]
        np.testing.assert_array_equal(*[plan.groups["1.weight"].mask() for plan in plans])


def test_densities_are_decided_before_positions(net, data):
    size = sum(parameter.numel() for parameter in net.parameters())
    erk = px.plan(net, "random", "20% weights", allocate="erk")
    er = px.plan(net, "random", "20% weights", allocate="erk", kind="er")
    even = px.plan(net, "random", "20% weights", allocate="uniform")
    snip = px.plan(net, "snip", "20% weights", data=data)
    like = px.plan(net, "random", "20% weights", allocate=snip, seed=1)
    assert {sum(counts(plan).values()) for plan in (erk, er, even, snip, like)} == {size - int(0.8 * size)}
    assert counts(like) == counts(snip) != counts(erk) != counts(er)
    fewer = px.plan(net, "magnitude", "10% weights", allocate=snip)
    shares = {name: fewer.groups[name].count / snip.groups[name].count for name in snip.groups}
    assert max(shares.values()) - min(shares.values()) < 0.2
    named = px.plan(net, "random", "20% weights", allocate={"c1.weight": 1.0, "c2.weight": 0.1, "fc.weight": 1.0})
    assert counts(named)["c2.weight"] < 0.2 * 432


def test_what_can_not_be_allocated_is_refused(net, data):
    with pytest.raises(UnknownName, match="c3"):
        px.plan(net, "random", "20% weights", allocate={"c3.weight": 0.1})
    with pytest.raises(UnknownName, match="density of a matrix"):
        px.plan(net, "random", "20% weights", allocate={"c1.weight": 0.1})
    with pytest.raises(BadInput, match="between 0 and 1"):
        px.plan(net, "random", "20% weights", allocate={"c1.weight": 1.0, "c2.weight": 2.0, "fc.weight": 1.0})
    with pytest.raises(BadInput, match="within='group'"):
        px.plan(net, "random", "20% weights", allocate="erk", within="output")
    with pytest.raises(BadInput, match="leave allocate= out"):
        px.plan(net, "random", "2:4", allocate="erk")
    with pytest.raises(BadInput, match="leave allocate= out"):
        px.plan(net, "sparsegpt", "50% weights", allocate="erk", data=data)
    with pytest.raises(BadInput, match="recalls"):
        px.plan(net, "random", "20% weights", allocate="by_recall")
    with pytest.raises(BudgetUnreachable):
        px.plan(net, "random", "5 weights", allocate="erk", floor=3)


def test_the_table_shows_collapse_and_work_before_anything_is_cut(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    hard = px.plan(net, "magnitude", "3 weights", within="all", minimum=0, floor=0)
    rows = px.density_table(net, {"erk": "erk", "even": "uniform", "hard": hard}, "20% weights", example=EXAMPLE)
    *layers, last = rows
    assert [row["group"] for row in layers] == list(hard.groups) and last["group"] == "all"
    assert last["macs"] == sum(row["macs"] for row in layers) == 64 * 9 * (6 + 6 * 8) + 32
    assert last["macs: even"] == pytest.approx(0.2, abs=0.01) and last["macs: erk"] != pytest.approx(0.2, abs=0.01)
    assert "hard" in last["empty"] and last["erk"] == pytest.approx(0.2, abs=0.01)
    assert {name for row in layers for name in row["empty"]} == {"hard"}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(BadInput, match="give one"):
        px.density_table(net, {"erk": "erk"})
