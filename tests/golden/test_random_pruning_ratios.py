"""Densities that SNIP and GraSP choose, as random pruning borrows them, against the released functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from prunus.prunables.model import ModelPrunable

pytestmark = pytest.mark.golden("random-pruning--snip-grasp-ratios")
MATRICES = ("c1.weight", "c2.weight", "fc.weight")


class Net(nn.Module):
    """Two convolutions and a linear layer that ends in a log-softmax, as in the released code."""

    def __init__(self, weights):
        super().__init__()
        first, second, last = (weights[name] for name in MATRICES)
        self.c1 = nn.Conv2d(first.shape[1], first.shape[0], 3, padding=1, bias=False)
        self.c2 = nn.Conv2d(second.shape[1], second.shape[0], 3, padding=1, bias=False)
        self.fc = nn.Linear(last.shape[1], last.shape[0])
        self.double().load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

    def forward(self, x):
        return self.fc(self.c2(self.c1(x).relu()).relu().flatten(1)).log_softmax(1)


@pytest.fixture
def prunable(case):
    return ModelPrunable(Net(case.part("param")).eval(), torch.from_numpy(case["X"])[:1])


def sparsity(plan):
    return [1 - plan.groups[name].count / plan.groups[name].size for name in MATRICES]


def snip_plan(prunable, case):
    size, keep = sum(case[f"param/{name}"].size for name in MATRICES), float(case["hyper"][0])
    data = [(torch.from_numpy(case["X"]), torch.from_numpy(case["Y"]))]
    return px.plan(prunable, "snip", f"{int(size * keep)} weights", data=data, minimum=0, floor=0)


def test_snip(prunable, case):
    np.testing.assert_allclose(sparsity(snip_plan(prunable, case)), case["snip_sparsity"], rtol=0, atol=1e-9)


def test_grasp(prunable, case):
    size, (keep, temperature) = sum(case[f"param/{name}"].size for name in MATRICES), case["hyper"].tolist()
    stays = size - int(size * (1 - keep)) + 1  # the released cut keeps the one at its threshold
    x, y = torch.from_numpy(case["Xg"]), torch.from_numpy(case["Yg"])
    half = len(x) // 2
    data = [(x[:half], y[:half]), (x[half:], y[half:])]
    given = {"data": data, "temperature": temperature, "minimum": 0, "floor": 0}
    plan = px.plan(prunable, "grasp", f"{stays} weights", **given)
    np.testing.assert_allclose(sparsity(plan), case["grasp_sparsity"], rtol=0, atol=1e-9)


def test_random_masks_take_the_ratios_over(prunable, case):
    source = snip_plan(prunable, case)
    budget = f"{int(source.planned['weights'])} weights"
    plan = px.plan(prunable, "random", budget, allocate=source, floor=0, seed=3)
    np.testing.assert_allclose(sparsity(plan), case["snip_sparsity"], rtol=0, atol=1e-9)
    assert all(not np.array_equal(plan.groups[name].mask(), source.groups[name].mask()) for name in MATRICES)
