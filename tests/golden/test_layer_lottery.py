"""Saliency of blocks and CKA of a residual perceptron at initialisation, against an independent derivation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.layers.cka import cka
from prunus.layers.layer_lottery import layer_lottery
from prunus.signals.collect import collect

pytestmark = pytest.mark.golden("layer-lottery--blocks")
CLOSE = {"rtol": 1e-8, "atol": 1e-10}


class Pair(nn.Module):
    """z + b(tanh(a(z))), through tanh: `0` and `1` are a and b, as the case names them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add_module("0", nn.Linear(width, width))
        self.add_module("1", nn.Linear(width, width))

    def forward(self, z):
        a, b = self.children()
        return torch.tanh(z + b(torch.tanh(a(z))))


class Perceptron(nn.Module):
    """The network of the case, weights and all."""

    def __init__(self, case) -> None:
        super().__init__()
        state = {key.removeprefix("param:"): torch.from_numpy(case[key]) for key in case if key.startswith("param:")}
        width, inputs = state["stem.weight"].shape
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        self.stem, self.head = nn.Linear(inputs, width), nn.Linear(width, len(state["head.weight"]))
        self.blocks = nn.ModuleList(Pair(width) for _ in range(blocks))
        self.double().load_state_dict(state)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture
def layers(case):
    need = ("block_grasp", "block_snip", "block_l1", "block_synflow", "block_weights", "block_cka", "block_cka_without")
    data = (torch.from_numpy(case["x"]), torch.from_numpy(case["y"]))
    net = Perceptron(case)
    found = collect(net, data, need, step=exact, batch=16).modules
    return [found[f"blocks.{i}"] for i in range(len(net.blocks))]


def exact(model, batch):
    """The shipped step takes its loss in float32."""
    from prunus.signals.step import Step

    logits = model(batch[-2])
    return Step(None, logits, batch[-1], F.cross_entropy(logits, batch[-1], reduction="none"))


def test_loss(case):
    logits = Perceptron(case)(torch.from_numpy(case["x"]))
    loss = F.cross_entropy(logits, torch.from_numpy(case["y"])).detach()
    np.testing.assert_allclose(loss, case.value("loss"), rtol=1e-9)


@pytest.mark.parametrize("by", ["grasp", "snip", "l1"])
def test_saliency(case, layers, by):
    found = [float(layer_lottery(layer, by=by, sign="high")) for layer in layers]
    np.testing.assert_allclose(found, case[f"{by}_block"], **CLOSE)
    means = [float(layer_lottery(layer, by=by, sign="high", per_weight=True)) for layer in layers]
    np.testing.assert_allclose(means, case[f"{by}_block"] / case["weights_per_block"], **CLOSE)
    assert [float(layer_lottery(layer, by=by)) for layer in layers] == np.abs(found).tolist()


def test_weights(case, layers):
    np.testing.assert_array_equal([float(layer.block_weights) for layer in layers], case["weights_per_block"])


def test_likeness(case, layers):
    np.testing.assert_allclose([1 - float(cka(layer)) for layer in layers], case["cka_ablation"], **CLOSE)
    found = [1 - float(cka(layer, against="input")) for layer in layers]
    np.testing.assert_allclose(found, case["cka_adjacent"], **CLOSE)
