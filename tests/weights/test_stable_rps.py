"""Shared weights: exact at full size, one parameter on disk, steps that do not depend on the scale of the array."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.flow.controls import random_like
from prunus.flow.recover import masks_of
from prunus.train.sharing import shared_numbers


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3))


def test_a_whole_array_nearest_to_the_weights_is_the_network():
    dense, x = net(), torch.randn(5, 12)
    plan = px.plan(dense, "stable_rps", "100% weights", start="weights")
    torch.testing.assert_close(plan.apply(dense)(x), dense(x), rtol=1e-4, atol=1e-5)
    less = px.plan(dense, "stable_rps", "50% weights", start="weights").apply(dense)
    drawn = px.plan(dense, "stable_rps", "50% weights").apply(dense)

    def off(model):
        return sum(float((a.weight - b.weight).detach().square().sum()) for a, b in zip(model[::2], dense[::2]))

    assert off(less) < off(drawn)


def test_one_array_is_stored_trained_and_comes_back(tmp_path):
    dense, x = net(), torch.randn(16, 12)
    plan = px.plan(dense, "stable_rps", "25% weights")
    small = plan.apply(dense)
    assert shared_numbers(small) == plan.planned["weights"] == int(0.25 * plan.dense["weights"])
    stored = sum(p.numel() for p in small.parameters())
    assert stored == plan.planned["weights"] + 20 + 6 + 3
    back = px.recover(small, plan=plan, data=(x, torch.arange(16) % 3), how="finetune", steps=3, batch=16, lr=0.1)
    assert masks_of(small, plan) is None and not torch.equal(back(x), small(x))
    px.save(back, plan, tmp_path)
    torch.testing.assert_close(px.load(tmp_path, like=net)(x), back(x), rtol=0, atol=0)
    with pytest.raises(BadInput, match="none can be drawn"):
        random_like(plan, 0)


def test_under_v5_a_step_does_not_depend_on_the_scale_of_the_array():
    dense, x = net(), torch.randn(8, 12)
    moved = []
    for wide in (0.01, 1.0):
        plan = px.plan(dense, "stable_rps", "30% weights", rule="v5", half_width=wide)
        model = plan.apply(dense)
        before = model[0].weight.detach().clone()
        model(x).square().sum().backward()
        torch.optim.SGD(model.parameters(), 0.01).step()
        moved.append(model[0].weight.detach() - before)
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-3, atol=1e-5)


def test_new_weights_spread_as_the_constructor_made_them():
    dense = nn.Sequential(nn.Linear(200, 150), nn.Linear(150, 10))
    small = px.plan(dense, "stable_rps", "20% weights").apply(dense)
    for old, new in zip(dense, small):
        assert float(new.weight.std()) == pytest.approx(float(old.weight.std()), rel=0.1)


def test_budgets_and_places_that_cannot_be():
    with pytest.raises(BudgetUnreachable, match="not shared"):
        px.plan(net(), "stable_rps", "1% weights", smallest=100)
    with pytest.raises(BadInput, match="share"):
        px.plan(net(), "stable_rps", "2:4")
    plan = px.plan(net(), "stable_rps", "25% weights")
    with pytest.raises(BadInput, match="does not have"):
        replace(plan, edits=tuple(replace(edit, parameter="9.weight") for edit in plan.edits), fingerprint="").apply(
            net()
        )
    assert np.all([one.count == one.size for one in plan.groups.values()])
