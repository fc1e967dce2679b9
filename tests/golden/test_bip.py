"""BiP: the released hard masks, and one iteration of both levels derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.core.budget import Budget
from prunus.prunables.model import ModelPrunable
from prunus.weights.bip import Cut, TwoLevels, bip
from prunus.weights.masked import top_mask

pytestmark = pytest.mark.golden("bip--masks-and-hypergradient")
MASKS = {
    "mask_unstructured": ("weight", 2.0), "mask_filter_p1": ("output", 1.0), "mask_filter_p2": ("output", 2.0),
    "mask_channel_p1": ("input", 1.0), "mask_channel_p2": ("input", 2.0),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_hard_masks(case, name):
    scores, keep, (of, p) = torch.from_numpy(case["scores"]), float(case["hyper"][0]), MASKS[name]
    count = {"weight": scores.numel(), "output": scores.shape[0], "input": scores.shape[1]}[of]
    found = top_mask(scores, int((1 - keep) * count), of, p)
    np.testing.assert_array_equal(found.numpy(), case[name].astype(bool))


def classifier(case):
    net = nn.Linear(case["theta0"].shape[1], case["theta0"].shape[0], bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(case["theta0"]))
    return net


def backward(net, case, level):
    net.zero_grad()
    F.cross_entropy(net(torch.from_numpy(case[f"X_{level}"])), torch.from_numpy(case[f"Y_{level}"])).backward()


def engine_of(net, case, **more):
    keep, inverse_gamma, alpha, beta = case["hyper"].tolist()
    plain = {"momentum": 0.0, "weight_decay": 0.0, "mask_momentum": 0.0, "mask_decay": 0.0}
    cut = Cut(int((1 - keep) * net.weight.numel()))
    rates = {"lr": alpha, "mask_lr": beta, "inverse_gamma": inverse_gamma}
    return TwoLevels(net.parameters(), {net.weight: cut}, **rates, **plain, **more)


def same(value, case, name):
    np.testing.assert_allclose(value.detach().numpy(), case[name], rtol=1e-8, err_msg=name)


def test_one_iteration(case):
    net = classifier(case)
    engine = engine_of(net, case)
    same(engine.scores[net.weight], case, "score0")
    np.testing.assert_array_equal(engine.masks[net.weight].numpy(), case["mask0"].astype(bool))
    backward(net, case, "lower")
    engine.step()
    same(engine.weights[net.weight], case, "theta1")
    same(net.weight, {"masked": case["theta1"] * case["mask0"]}, "masked")
    backward(net, case, "upper")
    same(net.weight.grad, case, "grad_z_upper")
    engine.step()
    same(engine.scores[net.weight].grad, case, "hypergrad")
    same(engine.scores[net.weight], case, "score1")
    np.testing.assert_array_equal(engine.masks[net.weight].numpy(), case["mask1"].astype(bool))


def test_the_search_makes_the_same_iteration(case):
    keep, inverse_gamma, alpha, beta = case["hyper"].tolist()
    net = classifier(case)

    def fit(model, *, steps, optimizer, lr, batch):
        engine = optimizer(model.parameters())
        for level in ("lower", "upper")[:steps]:
            backward(model, case, level)
            engine.step()

    stays = net.weight.numel() - int((1 - keep) * net.weight.numel())
    rates = {"lr": alpha, "mask_lr": beta, "inverse_gamma": inverse_gamma, "momentum": 0.0, "weight_decay": 0.0}
    plan = bip(ModelPrunable(net), Budget.parse(f"{stays} weights"), fit=fit, steps=1, **rates)
    np.testing.assert_array_equal(plan.groups["weight"].mask(), case["mask1"].reshape(-1).astype(bool))
    np.testing.assert_allclose(plan.edits[0].value, case["theta1"] * case["mask1"], rtol=1e-6)
    assert plan.provenance["changed"] == pytest.approx((case["mask0"] != case["mask1"]).mean())
