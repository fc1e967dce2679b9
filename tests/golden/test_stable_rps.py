"""Places, gradient scales and the gradient of the shared array, against the released mappers and scalers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.maths.sharing import EMPTY, PRIME, gradient_scale, hashed, places
from prunus.train.sharing import EPS, share

pytestmark = pytest.mark.golden("stable-rps--mapping-and-grad-scale")
MAPPERS = {"hashednet": "hashed", "pareto": "fold", "roast": "blocks"}
RULES = ("v1", "v2", "v3", "v4", "v5", "none")
LAYERS = ("conv", "linear")


class Net(nn.Module):
    """The case's network."""

    def __init__(self, case) -> None:
        super().__init__()
        outputs, inputs, *kernel = case["conv_weight"].shape
        self.conv = nn.Conv2d(inputs, outputs, tuple(kernel), bias=False)
        self.linear = nn.Linear(*reversed(case["linear_weight"].shape))
        with torch.no_grad():
            self.linear.bias.copy_(torch.from_numpy(case["linear_bias"]))

    def forward(self, x):
        return self.linear(self.conv(x).relu().flatten(1))


def layers_of(case):
    return [
        (
            f"{name}.weight",
            case[f"layer/{name}/idx"],
            case[f"layer/{name}/sign"],
            float(case.value(f"layer/{name}/lambda")),
        )
        for name in LAYERS
    ]


@pytest.mark.parametrize("name", list(MAPPERS))
def test_places(case, name):
    size, numbers = case.value("memory_size"), case[f"{name}/random_numbers"]
    assert case.value("P") == PRIME
    first = case[f"{name}/idx_linear"]
    for key, offset in (("idx_linear", 0), ("idx_conv", first.size)):
        wanted = case[f"{name}/{key}"]
        found = places(MAPPERS[name], wanted.shape, offset, size, numbers, block=(2, 3))
        np.testing.assert_array_equal(found, wanted, err_msg=key)
    assert hashed(np.array([0]), numbers, size)[0] == numbers[2] % PRIME % size


def test_every_cell_is_read_equally_often_under_fold(case):
    size, numbers = case.value("memory_size"), case["pareto/random_numbers"]
    total = case["pareto/idx_linear"].size + case["pareto/idx_conv"].size
    uses = np.bincount(places("fold", (total,), 0, size, numbers), minlength=size)
    assert set(uses.tolist()) <= {total // size, -(-total // size)}
    assert len(set(places("fold", (size,), 0, size, numbers).tolist())) == size


@pytest.mark.parametrize("rule", RULES)
def test_gradient_scales(case, rule):
    layers = [(cells, scale) for _, cells, _, scale in layers_of(case)]
    found = gradient_scale(layers, case.value("memory_size"), rule)
    np.testing.assert_allclose(found, case[f"grad_scale/{rule}"], rtol=1e-5)
    assert EMPTY == 1e-3


def test_scales_come_from_the_spread_of_the_layers(case):
    """Released: the half width of the array's start stands for its standard deviation."""
    _, half_width = case["hyper"]
    for target, (_, _, _, scale) in zip(case["target_std"], layers_of(case)):
        assert scale == pytest.approx(target / half_width, rel=1e-6)
    total = case["conv_weight"].size + case["linear_weight"].size
    assert case.value("memory_size") == int(case["hyper"][0] * total)


def test_weights_and_the_gradient_of_the_array(case):
    for rule in RULES:
        net = Net(case)
        array = share(net, layers_of(case), torch.from_numpy(case["roast_array"]), rule=rule)
        np.testing.assert_allclose(net.conv.weight.detach(), case["conv_weight"], rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(net.linear.weight.detach(), case["linear_weight"], rtol=1e-5, atol=1e-8)
        F.cross_entropy(net(torch.from_numpy(case["X"])), torch.from_numpy(case["Y"])).backward()
        wanted = case["grad_array"] / (EPS + case[f"grad_scale/{rule}"])
        np.testing.assert_allclose(array.grad, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())
        stored = {id(p): p.numel() for p in net.parameters()}
        assert sum(stored.values()) == case.value("memory_size") + net.linear.bias.numel()
