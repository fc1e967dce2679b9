"""Budgets of training from scratch: the authors' own count of operations, epochs, milestones and start of masked weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.measure.flops import flops
from prunus.recovery.scratch import draw, milestones, scratch_length, sparse_std

pytestmark = pytest.mark.golden("rethinking-value--flops-and-epochs")


def network(channels, pools, size: int, classes: int) -> nn.Module:
    layers, inputs = [], 3
    for outputs, pool in zip(channels, pools):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
        inputs, size = outputs, size // 2 if pool else size
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * size * size, classes))


def test_flops_epochs_and_milestones(case):
    size, classes, epochs = (int(value) for value in case["hyper"])
    rows = torch.zeros(2, 3, size, size), torch.zeros(2, dtype=torch.long)
    nets = [
        network(case[f"channels_{name}"].tolist(), case["pools"].tolist(), size, classes) for name in ("big", "small")
    ]
    found = [flops(net, rows)["flops"][0] for net in nets]
    np.testing.assert_array_equal(found, case["flops"])
    assert flops(nets[1], rows, dense=nets[0])["flop_ratio"][0] == found[0] / found[1]
    longer = scratch_length(epochs, *found)
    np.testing.assert_array_equal([scratch_length(epochs, found[0], found[0]), longer], case["epochs"])
    np.testing.assert_array_equal(milestones(longer), case["schedule_B"])


def test_start_of_masked_weights(case):
    mask = torch.from_numpy(case["mask"])
    np.testing.assert_allclose(sparse_std(mask), case["init_std"], rtol=1e-12)
    outputs, inputs, *taps = mask.shape
    net = nn.Sequential(nn.Conv2d(inputs, outputs, tuple(taps)))
    draw(net, {"0.weight": mask.bool()}, 0)
    weight = net[0].weight.detach()
    assert float(weight[mask == 0].abs().max()) == 0
    drawn = weight[mask == 1]
    assert abs(float(drawn.std()) / float(case["init_std"]) - 1) < 5 / np.sqrt(2 * drawn.numel())
