"""Corruptions that are the same for every model, and measures that follow them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.errors import BadInput, UnknownName
from prunus.measure.corruptions import STRENGTHS, corrupt
from prunus.measure.geometry import geometries, geometry
from prunus.prunables.dataset import Dataset

PICTURES = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, scaled: bool = False):
        super().__init__()
        self.conv, self.head, self.scaled = nn.Conv2d(3, 5, 3), nn.Linear(5, 3), scaled

    def forward(self, x):
        out = self.head(self.conv(x).relu().mean((2, 3)))
        return 2 * out if self.scaled else out


@pytest.mark.parametrize("name", list(STRENGTHS))
def test_corruptions_are_pictures_get_worse_and_follow_the_id(name):
    ids = [f"r{i}" for i in range(6)]
    found = [corrupt(PICTURES, name, severity, ids) for severity in range(6)]
    assert all(one.shape == PICTURES.shape and one.min() >= 0 and one.max() <= 1 for one in found)
    gaps = [float((one - PICTURES).square().mean()) for one in found]
    assert gaps[0] == 0 and 0 < gaps[1] < gaps[5]
    torch.testing.assert_close(corrupt(PICTURES[[3]], name, 3, ["r3"])[0], found[3][3])


def test_refusals():
    for error, arguments in (
        (UnknownName, (PICTURES, "rain", 1)), (BadInput, (PICTURES, "fog", 6)), (BadInput, (5 * PICTURES, "fog", 1)),
    ):  # fmt: skip
        with pytest.raises(error):
            corrupt(*arguments, list(range(6)))


@pytest.fixture
def rows():
    return Dataset((PICTURES.numpy(), np.array([0, 1, 2, 0, 1, 2])), role="test")


def test_measures_of_every_condition(rows):
    net = Net()
    found = geometry(net, rows, corruptions=("fog", "blur"), severities=(1, 5), batch=4)
    assert {"angle", "margin@fog:5", "accuracy@blur:1", "flips@blur:5", "rescues@fog:1"} <= set(found)
    each = geometries(net, rows, corruptions=("fog",), severities=(5,))
    assert found["margin@fog:5"][0] == pytest.approx(each["fog:5"].margin.mean())
    np.testing.assert_allclose(geometries(net, rows, batch=1)["clean"].margin, each["clean"].margin, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_array_equal(each["clean"].predicted, net(PICTURES).argmax(1))


def test_corruption_is_before_normalisation():
    raw = (255 * PICTURES).byte().numpy()
    plain = Dataset((raw, np.zeros(6, dtype=np.int64)), role="test").with_preprocess()
    normal = plain.with_preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    net, twin = Net(), Net()
    twin.load_state_dict(net.state_dict())
    with torch.no_grad():
        twin.conv.bias += net.conv.weight.sum((1, 2, 3)) * 0.5
        twin.conv.weight *= 0.25
    options = {"corruptions": ("fog", "gaussian_noise"), "severities": (3,)}
    one, other = geometries(net, plain, **options), geometries(twin, normal, **options)
    for name in one:
        np.testing.assert_allclose(other[name].length, one[name].length, rtol=1e-4, atol=1e-6)


def test_logits_must_come_from_a_linear_layer(rows):
    with pytest.raises(BadInput, match="linear"):
        geometry(Net(scaled=True), rows)
