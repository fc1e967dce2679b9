"""Rounding without data: many bits change nothing, few bits are repaired, and no row is read."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from prunus.core.errors import BadInput
from prunus.maths.stand_in import rounded
from prunus.recovery.udfc_bits import udfc_bits
from prunus.train.models import CifarResNet, seeded


@pytest.fixture(scope="module")
def net():
    made = seeded(CifarResNet, 0, depth=8, width=8).eval()
    generator = torch.Generator().manual_seed(3)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return made


ROW = (np.zeros((1, 3, 8, 8), dtype=np.float32), np.zeros(1, dtype=np.int64))


def images():
    return torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_many_bits_change_nothing_and_few_leave_few_values(net):
    found = udfc_bits(copy.deepcopy(net), ROW, bits=16, ends=16)
    torch.testing.assert_close(found(images()), net(images()), atol=2e-2, rtol=1e-3)
    report = {}
    coarse = udfc_bits(copy.deepcopy(net), ROW, bits=3, report=report)
    assert coarse.layer2[0].conv1.weight.unique().numel() <= 7
    assert coarse.conv1.weight.unique().numel() > 7
    assert report["rounded"] == 8 and 0 < report["repaired"] < 8


def test_repair_predicts_the_wider_network_better_than_rounding(net):
    """Filters that are doubled stand in for one another: what one loses, the other holds."""
    wide = copy.deepcopy(net)
    block = wide.layer1[0]
    with torch.no_grad():
        block.conv1.weight[4:] = block.conv1.weight[:4] * 1.037
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(block.bn1, name)[4:] = getattr(block.bn1, name)[:4]
    dense = wide(images()).detach()
    errors = []
    for way in (True, False):
        coarse = udfc_bits(copy.deepcopy(wide), ROW, bits=4, ends=16, repair=way, alpha2=0.01)
        errors.append(float((coarse(images()).detach() - dense).square().sum()))
    assert errors[0] < errors[1]


def test_no_value_of_a_row_is_read(net):
    nan = (np.full((1, 3, 8, 8), np.nan, dtype=np.float32), np.zeros(1, dtype=np.int64))
    one, other = (udfc_bits(copy.deepcopy(net), rows).state_dict() for rows in (ROW, nan))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_rounding():
    weight = torch.tensor([[0.5, -1.0, 0.1], [0.0, 0.0, 0.0]])
    assert rounded(weight, 2).tolist() == [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
    assert torch.isfinite(rounded(weight, 4, per_output=True)).all()
    assert torch.equal(rounded(torch.zeros(2, 2), 4), torch.zeros(2, 2))
    with pytest.raises(BadInput, match="2 bits"):
        rounded(weight, 1)
