"""Beta-Rank and HRank of one convolution against the released functions, and the spatial windows against a derivation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from prunus.channels.beta_rank import beta_rank
from prunus.channels.hrank import hrank
from prunus.channels.l1 import l1
from prunus.channels.normalise import normalise
from prunus.core.score import GroupScore
from prunus.graph.members import Member
from prunus.signals.collect import collect
from prunus.signals.step import Step

pytestmark = pytest.mark.golden("beta-rank--scores")
NEED = ("output_spread", "output_spread_official", "input_rank")


def padding(case) -> int:
    """What makes the outputs of the case, tried one after the other."""
    side, stride, width = case["weight"].shape[2], int(case.value("stride")), case["output"].shape[2]
    return next(p for p in range(side) if (case["input"].shape[2] + 2 * p - side) // stride + 1 == width)


@pytest.fixture
def group(case):
    """The layer's filters as a group: the convolution writes, a second one reads its ReLU."""
    weight = torch.from_numpy(case["weight"])
    filters, channels, side, _ = weight.shape
    pad = padding(case)
    conv = nn.Conv2d(channels, filters, side, int(case.value("stride")), pad, bias=False).double()
    conv.weight.data = weight
    net = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(filters, 1, 1).double())
    x = torch.from_numpy(case["input"])
    np.testing.assert_allclose(conv(x).detach(), case["output"], rtol=1e-9, atol=1e-12)
    rows = len(x)
    data = (x, torch.zeros(rows))
    found = collect(
        net, data, NEED, step=lambda m, b: Step(None, m(b[-2]), None, None), batch=max(rows // 2, 1)
    ).modules
    spread = {name: found["0"].fields[name][:, None] for name in NEED[:2]}
    writer = Member("0.weight", "0", weight.reshape(filters, 1, -1), outputs=spread)
    reader = Member("2.weight", "2", net[2].weight.detach().reshape(filters, 1, 1), input_rank=found["2"].input_rank)
    return SimpleNamespace(name="0.weight:0", size=filters, writers=(writer,), readers=(reader,), vectors=())


def test_released_scores(case, group):
    raw = beta_rank(group, parity="official").numpy()
    given = case["rank_raw_official"]  # one for each filter; some cases hold fewer, without saying of which filters
    found = raw if given.size == raw.size else raw[np.abs(raw[:, None] - given).argmin(0)]
    np.testing.assert_allclose(found, given, rtol=1e-9)
    np.testing.assert_allclose(normalise({"g": raw}, "minmax")["g"], case["rank_official"], rtol=1e-9, atol=1e-12)


def test_spatial_windows(case, group):
    np.testing.assert_allclose(beta_rank(group).numpy(), case["rank_spatial_own"], rtol=1e-9)


def test_criteria_it_is_compared_with(case, group):
    positions, weights = np.prod(case["output"].shape[2:]), np.prod(case["weight"].shape[1:])
    np.testing.assert_allclose(l1(group, members="writers") * positions / weights, case["l1_official"], rtol=1e-6)
    np.testing.assert_allclose(hrank(group), case["hrank_official"], rtol=1e-6)


def test_kept_half(case, group):
    scores = normalise({"g": beta_rank(group, parity="official").numpy()}, "minmax")["g"]
    kept = GroupScore(scores, np.arange(scores.size)).keep_order()[: len(case["keep_half_official"])]
    np.testing.assert_array_equal(np.sort(kept), case["keep_half_official"])
    assert kept.size == int(scores.size * 0.5)
