"""Layers and lazy scores of a real model; masks come out in the layout that a plan applies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.plan import Kept, Plan
from prunus.core.rng import Rng
from prunus.prunables.model import ModelPrunable
from prunus.select.within import keep_masks
from prunus.signals.collect import collect
from prunus.weights.layer import layer_of, lazy_score, taps_of
from prunus.weights.magnitude import magnitude
from prunus.weights.random import random
from prunus.weights.wanda import wanda


class Net(nn.Module):
    """Grouped and plain convolutions, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.grouped(self.conv(x).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval()


@pytest.fixture(scope="module")
def signals(net):
    x = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    return collect(net, (x, torch.arange(6) % 4), ("input_norm", "grad", "hessian")).modules


NAMES = ("conv.weight", "grouped.weight", "fc.weight")


def test_layers_are_matrices_with_their_statistics(net, signals):
    for name in NAMES:
        layer = layer_of(net, name, signals)
        assert layer.weight.shape == layer.grad.shape == net.get_parameter(name).flatten(1).shape
        assert wanda(layer).shape == layer.weight.shape
    assert taps_of(net, NAMES) == {"conv.weight": 9, "grouped.weight": 9, "fc.weight": 1}
    with pytest.raises(BadInput, match=r"conv\.weight has no input_norm"):
        wanda(layer_of(net, "conv.weight"))


def test_grouped_convolutions_see_the_norms_of_their_own_inputs(net, signals):
    norms = layer_of(net, "grouped.weight", signals).input_norm
    assert norms.shape == (8, 4 * 9)
    assert norms[0].equal(norms[3])
    assert not norms[0].equal(norms[4])


def test_scores_are_computed_when_asked_for(net):
    asked = []

    def counted(layer):
        asked.append(layer.name)
        return magnitude(layer)

    score = lazy_score(net, NAMES, counted)
    assert asked == []
    assert "fc.weight" in score.values
    assert asked == []
    np.testing.assert_array_equal(score.values["fc.weight"], net.fc.weight.detach().abs())
    assert asked == ["fc.weight"]


@pytest.mark.parametrize(("budget", "within"), [("50% weights", "all"), ("2:4", "group"), ("sparsity 50%", "output")])
def test_masks_become_a_plan_that_applies(net, signals, budget, within):
    asked = Budget.parse(budget)
    score = lazy_score(net, NAMES, wanda, signals=signals)
    masks = dict(keep_masks(score, asked, within=within, taps=taps_of(net, NAMES)))
    plan = Plan("weights", {name: Kept.of_mask(mask) for name, mask in masks.items()}, asked)
    sparse = ModelPrunable(net, torch.zeros(1, 4, 5, 5)).apply(plan)
    for name, mask in masks.items():
        kept = sparse.get_parameter(name).flatten(1)
        torch.testing.assert_close(kept, net.get_parameter(name).flatten(1) * torch.from_numpy(mask))
    if asked.nm:
        groups = masks["conv.weight"].reshape(8, 4, 9)
        assert (groups.sum(1) == 2).all()


def test_random_scores_follow_the_seed(net):
    draws = [lazy_score(net, NAMES, random, options={"rng": Rng(seed, "weights/random")}) for seed in (0, 0, 1)]
    first, again, other = (score.values["fc.weight"] for score in draws)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_matrices_stored_the_other_way_round_are_turned():
    class Stored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nf = 3
            self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))

    net = nn.Sequential(Stored())
    assert layer_of(net, "0.weight").weight.shape == (3, 2)
    assert layer_of(net, "0.weight").weight[2].tolist() == [2, 5]
