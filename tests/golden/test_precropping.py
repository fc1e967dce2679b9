"""Widths from densities by both rules, the weights they leave, and water-filling, against an independent derivation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.channels.widths import by_root, in_sequence, water_filling
from prunus.core.budget import Budget
from prunus.core.registry import find
from prunus.flow.search import plan_search
from prunus.prunables.model import ModelPrunable

pytestmark = pytest.mark.golden("precropping--widths")


def weights(widths, kernel, inputs=3):
    """Of a plain chain."""
    return np.array([a * b * k * k for a, b, k in zip([inputs, *widths], widths, kernel)])


def listed(case, *names):
    return [case[name].tolist() for name in names]


def test_widths(case):
    channels, kernel, density = listed(case, "channels", "kernel", "density")
    least = int(case.value("min_channels"))
    np.testing.assert_array_equal(weights(channels, kernel), case["params"])
    np.testing.assert_array_equal(by_root(channels, density, least), case["width_sqrt"])
    np.testing.assert_array_equal(in_sequence(channels, kernel, density, least), case["width_sequential"])


def test_weights_left(case):
    (kernel,) = listed(case, "kernel")
    for rule in ("sqrt", "sequential"):
        left = weights(case[f"width_{rule}"].tolist(), kernel).sum()
        assert left == int(case.value(f"params_{rule}"))
    np.testing.assert_allclose(case["density"] @ case["params"], case.value("params_target"), rtol=1e-9)


def test_water_filling(case):
    total = float(case.value("budget_fraction")) * case["params"].sum()
    found = water_filling(case["params"], total)
    np.testing.assert_allclose(found, case["density_waterfill"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found @ case["params"], total, rtol=1e-9)


class Chain(nn.Module):
    """The plain chain of the case, read by a head."""

    def __init__(self, channels, kernel):
        super().__init__()
        sides = zip([3, *channels], channels, kernel)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, padding=k // 2, bias=False) for a, b, k in sides)
        self.head = nn.Linear(channels[-1], 2)

    def forward(self, x):
        for conv in self.convs:
            x = conv(x).relu()
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("rule", ["sqrt", "sequential"])
def test_the_search_finds_the_same_widths(case, rule):
    channels, kernel, density = listed(case, "channels", "kernel", "density")
    net, widths = Chain(channels, kernel), case[f"width_{rule}"].tolist()
    head = 2 * widths[-1] + 2
    left = int(weights(widths, kernel).sum()) + head
    prunable = ModelPrunable(net, torch.zeros(1, 3, 8, 8))
    options = {
        "densities": {f"convs.{i}.weight": value for i, value in enumerate(density)}, "rule": rule, "io_rule": "sqrt",
        "min_width": int(case.value("min_channels")),
    }  # fmt: skip
    plan = plan_search(prunable, find("channels/precropping"), Budget.parse(f"{left} params"), options=options)
    found = [plan.groups[f"convs.{i}.weight:0"].count for i in range(len(widths))]
    assert plan.planned["params"] <= left
    assert np.abs(np.array(found) - widths).max() <= 1  # one factor stretches all of them to the budget
