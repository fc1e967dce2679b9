"""Relevance of a small residual network against the released rules: maps, input, and filter scores."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.channels.lrp import lrp
from prunus.graph.members import Member
from prunus.signals.collect import collect
from prunus.signals.relevance import one_hot
from prunus.signals.relevance_rules import Rules

pytestmark = pytest.mark.golden("lrp-pruning--resnet-toy")
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


class Toy(nn.Module):
    """conv - relu - pool - conv - relu - conv - sum - relu - mean - linear, with the weights of the case."""

    def __init__(self, case) -> None:
        super().__init__()
        names = sorted(key.removesuffix("_w") for key in case if key.endswith("_w"))
        for name in names:
            weight, bias = (torch.from_numpy(case[f"{name}_{part}"]) for part in "wb")
            kind = nn.Linear if weight.dim() == 2 else nn.Conv2d
            extra = () if weight.dim() == 2 else (weight.shape[2], 1, weight.shape[2] // 2)
            layer = kind(weight.shape[1], weight.shape[0], *extra).double()
            layer.weight.data, layer.bias.data = weight, bias
            self.add_module(name, layer)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x) + x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture
def found(case):
    """Relevance by layer, and at the input."""
    net, maps = Toy(case), {}
    x = torch.from_numpy(case["x"]).requires_grad_(True)
    names = {id(module.weight): name for name, module in net.named_children()}
    rules = Rules(names, lambda name, relevance, axis: maps.update({name: relevance.numpy()}))
    with rules:
        logits = net(x)
    np.testing.assert_allclose(logits.detach(), case["logits"], rtol=1e-9)
    share = one_hot(logits.detach(), torch.from_numpy(case["y"]))
    (grad,) = torch.autograd.grad(logits, x, share / logits.detach())
    return maps, (grad * x).detach().numpy()


def test_maps_and_input(case, found):
    maps, at_input = found
    for name in sorted(key for key in case if key.startswith("r_")):
        np.testing.assert_allclose(maps[name.removeprefix("r_")], case[name], err_msg=name, **CLOSE)
    np.testing.assert_allclose(at_input, case["input_relevance"], **CLOSE)
    np.testing.assert_allclose(at_input.sum(), maps["conv1"].sum(), rtol=1e-6)


def test_scores(case):
    data = (torch.from_numpy(case["x"]), torch.from_numpy(case["y"]))
    signals = collect(Toy(case), data, ("output_relevance", "output_relevance_signed"), batch=3).modules
    for name in sorted(key for key in case if key.startswith("score_")):
        layer, units = name.removeprefix("score_"), len(case[name])
        outputs = {key: value[:, None] for key, value in signals[layer].fields.items()}
        writer = Member(layer, layer, torch.zeros(units, 1, 1), outputs=outputs)
        group = SimpleNamespace(name=layer, size=units, writers=(writer,), readers=(), vectors=())
        np.testing.assert_allclose(lrp(group), case[name], err_msg=name, **CLOSE)
