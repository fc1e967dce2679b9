"""Sections have thresholds of their own; ratios meet the budget; the penalty gets weaker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.channels.group_channel import kept_by_section, sparse_rate
from prunus.channels.scale_threshold import share_threshold
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import find
from prunus.flow.search import plan_search
from prunus.prunables.dataset import Dataset
from prunus.prunables.model import ModelPrunable
from prunus.train.kinds import BatchNorm
from prunus.train.models import CifarResNet

METHOD = find("channels/group_channel")


@pytest.fixture
def parts():
    net = CifarResNet(8).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, BatchNorm):
                module.weight.copy_(torch.rand(module.weight.shape, generator=generator) + 0.1)
    x = torch.randn(16, 3, 16, 16, generator=generator)
    return ModelPrunable(net, x[:1]), Dataset((x.numpy(), np.arange(16) % 10), role="fit")


def plan(parts, budget="60% macs", **options):
    options = {"steps": 0, **options}
    return plan_search(parts[0], METHOD, Budget.parse(budget), data=parts[1], options=options)


def test_a_section_whose_scales_are_ten_times_as_large_keeps_its_channels_alike():
    scales = {"a": np.linspace(0.1, 1, 10), "b": np.linspace(0.2, 2, 10)[::-1]}
    first, second = kept_by_section(scales, 0.4), kept_by_section({k: 10 * v for k, v in scales.items()}, 0.4)
    for name in scales:
        np.testing.assert_array_equal(first[name], second[name])
    assert kept_by_section(scales, 1.0)["b"].sum() == 1
    with pytest.raises(BadInput, match="ratio"):
        share_threshold([1.0], 1.5)


def test_the_penalty_never_gets_stronger():
    rates = [sparse_rate(step / 100) for step in range(100)]
    assert rates[0] == 1 and rates[-1] == 0.01 and rates == sorted(rates, reverse=True)


def test_sections_are_stages_and_the_budget_is_met_closely(parts):
    found = plan(parts)
    assert sorted(found.provenance["ratios"]) == ["1 backbone", "2 backbone", "4 backbone"]
    assert 0.57 < found.planned["macs"] / found.dense["macs"] <= 0.6
    assert all(group.count >= 0.1 * group.size for group in found.groups.values())
    assert all(np.diff(rises).min() >= 0 for rises in found.provenance["rises"].values())
    with pytest.raises(BudgetUnreachable) as caught:
        plan(parts, "1% macs")
    assert "macs" in caught.value.nearest


def test_sections_can_be_named(parts):
    names = {group.name: "one" for group in parts[0].groups()}
    assert list(plan(parts, sections=names).provenance["ratios"]) == ["one"]
    with pytest.raises(BadInput, match="no section"):
        plan(parts, sections={"bn1.weight:0": "one"})


def test_sparse_training_shrinks_scales_and_the_plan_carries_them(parts):
    found = plan(parts, steps=8, strength=0.5, batch=8)
    scales = {edit.parameter: edit.value for edit in found.edits if edit.parameter.endswith("bn1.weight")}
    before = dict(parts[0].model.named_parameters())
    assert scales
    assert all(np.abs(value).sum() < before[name].abs().sum().item() for name, value in scales.items())


def test_a_model_without_norms_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3))
    data = Dataset((np.zeros((4, 1, 8, 8), dtype=np.float32), np.zeros(4, dtype=np.int64)), role="fit")
    with pytest.raises(BadInput, match="norm"):
        plan((ModelPrunable(net, torch.zeros(1, 1, 8, 8)), data))
