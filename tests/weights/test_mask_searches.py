"""Searches of masks while training: weights that stay frozen, counts that stay constant, gradients that are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import prunus as px
from prunus.core.errors import BadInput
from prunus.weights.bip import Cut, TwoLevels
from prunus.weights.lottery_jackpots import MaskSearch, swapped
from prunus.weights.masked import top_mask


class Net(nn.Module):
    """A convolution with a norm, and a linear head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval()


@pytest.fixture(scope="module")
def data():
    x = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return px.Dataset((x.numpy(), np.arange(64) % 4), role="fit", name="drawn")


def test_jackpots_change_no_weight_and_no_count(net, data):
    plan = px.plan(net, "lottery_jackpots", "60% weights", data=data, steps=10, lr=2.0, batch=32)
    small = plan.apply(net)
    for name in ("conv.weight", "fc.weight"):
        kept = torch.from_numpy(plan.groups[name].mask()).reshape(net.get_parameter(name).shape)
        assert torch.equal(small.get_parameter(name)[kept], net.get_parameter(name)[kept])
    assert {edit.parameter for edit in plan.edits} <= {
        f"norm.{part}" for part in ("weight", "bias", "running_mean", "running_var")
    }
    assert plan.groups["fc.weight"].count == 32 and plan.planned["weights"] == int(0.6 * 104)
    assert 0 < plan.provenance["changed"] < 1
    frozen = px.plan(net, "lottery_jackpots", "60% weights", data=data, steps=2, norms="frozen")
    assert {edit.parameter for edit in frozen.edits} == {"norm.running_mean", "norm.running_var"}
    with pytest.raises(BadInput, match="head='pruned'"):
        px.plan(net, "lottery_jackpots", "20% weights", data=data)


def test_unrestricted_swaps_are_the_best_scores():
    scores = torch.tensor([0.1, 0.9, 0.5, 0.8, 0.3, 0.7])
    mask = torch.tensor([True, False, True, False, True, False])
    assert swapped(scores, mask, 1.0)[0].tolist() == [False, True, False, True, False, True]
    none, changed = swapped(scores, mask, 0.0)
    assert changed == 0 and torch.equal(none, mask)
    part, count = swapped(scores, mask, 0.5)
    assert count == 2 and part.tolist() == [False, True, True, True, False, False]
    level = swapped(torch.ones(6), mask, 1.0)
    assert level[1] == 0 and torch.equal(level[0], mask)


def test_gradient_of_a_score_is_that_of_its_mask_entry():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Linear(5, 3, bias=False).double()
    dense, x, y = net.weight.detach().clone(), torch.randn(8, 5).double(), torch.arange(8) % 3
    mask = top_mask(dense, 6)
    engine = MaskSearch(net.parameters(), {net.weight: mask}, momentum=0.0, lr=0.0)
    F.cross_entropy(net(x), y).backward()
    engine.step()
    step = 1e-6
    for at in ((0, 0), (1, 3), (2, 4)):
        ends = []
        for sign in (1, -1):
            share = mask.double()
            share[at] += sign * step
            ends.append(float(F.cross_entropy(x @ (share * dense).T, y)))
        assert float(engine.scores[net.weight].grad[at]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("official", [False, True])
def test_implicit_term_and_straight_through(official):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Linear(4, 3, bias=False)
    grad, dense = torch.randn(3, 4), net.weight.detach().clone()
    found = {}
    for inverse in (0.0, 0.5):
        net.weight.data.copy_(dense)
        engine = TwoLevels(
            net.parameters(),
            {net.weight: Cut(6)},
            lr=0.0,
            mask_lr=0.0,
            inverse_gamma=inverse,
            mask_decay=0.0,
            official=official,
        )
        for _ in range(2):
            net.weight.grad = grad.clone()
            engine.step()
        found[inverse] = engine.scores[net.weight].grad
    torch.testing.assert_close(found[0.0], dense * grad)
    other = (dense * grad).square() if official else grad.square()
    torch.testing.assert_close(found[0.5], dense * grad - 0.5 * other)


def test_implicit_gradient_is_exact_where_the_lower_problem_is_closed():
    """Lower: c.(m w) + gamma/2 |w|^2, so w*(m) = -c m / gamma. Upper: the same linear loss with slope d."""
    c, d, gamma = torch.tensor([0.3, -0.7, 1.1]).double(), torch.tensor([0.5, 0.2, -0.4]).double(), 2.0
    m = torch.ones(3).double()
    best = -c * m / gamma
    total = torch.autograd.functional.jacobian(lambda m: (d * m * (-c * m / gamma)).sum(), m)
    torch.testing.assert_close(
        best * d - c * d / gamma, total
    )  # (w - grad / gamma) grad, slopes of each level in their place
    net = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(best)
    engine = TwoLevels(
        net.parameters(),
        {net.weight: Cut(0)},
        lr=0.0,
        mask_lr=0.0,
        inverse_gamma=1 / gamma,
        mask_decay=0.0,
        weight_decay=0.0,
    )
    for _ in range(2):  # the same rows on both levels: c = d
        net.weight.grad = c.reshape(1, 3).clone()
        engine.step()
    same = torch.autograd.functional.jacobian(lambda m: (c * m * (-c * m / gamma)).sum(), m)
    torch.testing.assert_close(engine.scores[net.weight].grad.flatten(), same)


@pytest.mark.parametrize("of", ["weight", "output", "input"])
def test_bip_keeps_counts_and_whole_units(net, data, of):
    plan = px.plan(net, "bip", "50% weights", data=data, steps=3, of=of, batch=32, hold=0.3)
    small = plan.apply(net)
    mask = plan.groups["conv.weight"].mask().reshape(8, 1, 9)
    if of == "output":
        assert set(mask.reshape(8, 9).sum(1).tolist()) == {0, 9} and plan.groups["conv.weight"].count == 36
    if of == "weight":
        assert plan.planned["weights"] == 52
    edits = {edit.parameter: edit.value for edit in plan.edits}
    assert np.count_nonzero(edits["fc.weight"]) == plan.groups["fc.weight"].count
    assert {"conv.bias", "norm.weight", "norm.running_mean"} <= set(edits)
    assert torch.isfinite(small(torch.randn(2, 1, 6, 6))).all()


def test_first_masks_are_magnitudes_and_moved_entries_come_back():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = nn.Linear(6, 4, bias=False)
    dense = net.weight.detach().clone()
    engine = TwoLevels(net.parameters(), {net.weight: Cut(12)}, lr=0.0, mask_lr=1.0, mask_momentum=0.0, mask_decay=0.0)
    assert torch.equal(engine.masks[net.weight], top_mask(dense, 12))
    gone = ~engine.masks[net.weight]
    for _ in range(2):
        net.weight.grad = torch.where(gone, -100 * dense.sign(), 0.0)
        engine.step()
    assert int(engine.masks[net.weight].sum()) == 12 and bool(engine.masks[net.weight][gone].any())
    back = engine.masks[net.weight] & gone
    assert torch.equal(net.weight[back], dense[back])
