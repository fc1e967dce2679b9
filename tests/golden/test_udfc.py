"""Stand-ins for pruned filters, the compensated reader, errors, and rounded weights, against an independent derivation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from prunus.channels.l1 import l1
from prunus.compensate.reader import Matrix
from prunus.compensate.udfc import udfc
from prunus.core.score import GroupScore
from prunus.graph.makers import makers_of
from prunus.maths.stand_in import combination, misfit, rounded
from prunus.prunables.model import ModelPrunable

pytestmark = pytest.mark.golden("udfc--prune")
CLOSE = {"rtol": 1e-8, "atol": 1e-12}


class Net(nn.Module):
    """The two convolutions of the case, a norm and a ReLU between them."""

    def __init__(self, case) -> None:
        super().__init__()
        following = torch.from_numpy(case["next_weight"])
        filters, taps = len(case["weight"]), following.shape[2:].numel()
        inputs = case["weight"].shape[1] // taps
        side = tuple(following.shape[2:])
        self.first = nn.Conv2d(inputs, filters, side, padding="same", bias=False)
        self.norm = nn.BatchNorm2d(filters, eps=float(case.value("eps")))
        self.second = nn.Conv2d(filters, len(following), side, padding="same", bias=False)
        self.double()
        self.first.weight.data = torch.from_numpy(case["weight"]).reshape(filters, inputs, *side)
        self.second.weight.data = following
        for name in ("gamma", "beta", "mean", "var"):
            place = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}[name]
            getattr(self.norm, place).data = torch.from_numpy(case[f"bn_{name}"])

    def forward(self, x):
        return self.second(self.norm(self.first(x)).relu())


@pytest.fixture
def reader(case):
    """The second convolution, with the makers the graph finds."""
    net = Net(case).eval()
    prunable = ModelPrunable(net, torch.zeros(1, net.first.in_channels, 6, 6, dtype=torch.float64))
    makers = makers_of(prunable.graph, net, "second.weight")
    return Matrix("second", "second.weight", net.second.weight, **vars(makers))


def test_folded_filters(case, reader):
    scale = case["bn_gamma"] / np.sqrt(case["bn_var"] + case.value("eps"))
    np.testing.assert_allclose(reader.filters, case["weight"] * scale[:, None], rtol=1e-9)
    np.testing.assert_allclose(reader.shifts, case["bn_beta"] - case["bn_mean"] * scale, rtol=1e-9, atol=1e-12)


def test_what_goes(case):
    weight = torch.from_numpy(case["weight"])
    writer = SimpleNamespace(name="first.weight", weight=weight.unsqueeze(1))
    scores = l1(
        SimpleNamespace(name="g", size=len(weight), writers=(writer,), readers=(), vectors=()), members="writers"
    )
    order = GroupScore(scores.numpy(), np.arange(len(weight))).keep_order()
    np.testing.assert_array_equal(np.sort(order[len(case["kept"]) :]), case["pruned"])
    np.testing.assert_array_equal(np.sort(order[: len(case["kept"])]), case["kept"])


def test_stand_ins_and_errors(case, reader):
    gone, stays = (torch.from_numpy(case[name]) for name in ("pruned", "kept"))
    sides = (reader.filters[gone], reader.shifts[gone], reader.filters[stays], reader.shifts[stays])
    alpha1, alpha2 = float(case.value("alpha1")), float(case.value("alpha2"))
    scales = combination(*sides, alpha1=alpha1, alpha2=alpha2)
    np.testing.assert_allclose(scales, case["scales"], **CLOSE)
    errors = [float(misfit(*sides, s, alpha1).sum()) for s in (torch.zeros_like(scales), scales)]
    np.testing.assert_allclose(errors, [case.value("loss_without"), case.value("loss_with")], rtol=1e-8)


def test_compensated_reader(case, reader):
    options = {"alpha1": float(case.value("alpha1")), "alpha2": float(case.value("alpha2"))}
    (edit,) = udfc(reader, case["pruned"], parity="official", **options)
    np.testing.assert_allclose(edit.value[:, case["kept"]], case["next_weight_compensated"], **CLOSE)
    assert not edit.value[:, case["pruned"]].any()


def test_rounded_weights(case):
    found = rounded(torch.from_numpy(case["weight"]), int(case.value("bits")))
    np.testing.assert_allclose(found, case["weight_quantised"], **CLOSE)
