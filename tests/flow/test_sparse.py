"""Sparse rows where they measure faster, and patterns of N of M by name."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from prunus.core.errors import BadInput
from prunus.flow import sparse
from prunus.flow.sparse import nm_of, patterns
from prunus.prunables.csr import CsrLinear


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(32,), (5, 32), (2, 3, 32), (0, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_rows_compute_what_the_linear_layer_does(bias, shape, dtype):
    linear = nn.Linear(32, 8, bias=bias, dtype=dtype)
    with torch.no_grad():
        linear.weight.mul_(torch.rand(8, 32, generator=torch.Generator().manual_seed(0)) < 0.1)
        linear.weight[3] = 0
    made = CsrLinear(linear)
    x = torch.randn(shape, dtype=dtype)
    torch.testing.assert_close(made(x), linear(x), rtol=1e-5, atol=1e-6)
    again = CsrLinear(linear)
    again.load_state_dict(copy.deepcopy(made).state_dict())
    torch.testing.assert_close(again(x), linear(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(made.to_linear().weight, linear.weight)


def timed(monkeypatch, dense, sparse_rows):
    """Clock of the layers: so many seconds each, with a little spread."""
    spread = 1 + 0.01 * np.random.RandomState(0).rand(30)

    def in_turns(layers, call, repeats, threads, warmup):
        with torch.inference_mode():
            for layer in layers:
                call(layer)
        return np.stack([dense * spread[:repeats], sparse_rows * spread[:repeats][::-1]])

    monkeypatch.setattr(sparse, "in_turns", in_turns)


def test_only_what_is_faster_is_replaced(monkeypatch, net):
    plan = px.plan(net, "magnitude", "10% weights")
    small, x = plan.apply(net), torch.randn(8, 32)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    timed(monkeypatch, 2.0, 1.0)
    fast, rows = px.to_sparse(small, x)
    assert [row["module"] for row in rows] == ["0", "2", "4"] and all(row["sparse"] for row in rows)
    assert [type(fast[at]) for at in (0, 2, 4)] == [CsrLinear] * 3 and rows[0]["ratio"] == pytest.approx(2, abs=0.1)
    assert rows[0]["batch"] == 8 and rows[0]["density"] == pytest.approx(0.1, abs=0.01)
    torch.testing.assert_close(fast(x), small(x), rtol=1e-5, atol=1e-6)
    timed(monkeypatch, 1.0, 2.0)
    slow, rows = px.to_sparse(small, x)
    assert not any(row["sparse"] for row in rows) and "stays dense" in rows[0]["words"]
    assert all(type(slow[at]) is nn.Linear for at in (0, 2, 4))
    timed(monkeypatch, 1.0, 1.0)
    assert not any(row["sparse"] for row in px.to_sparse(small, x)[1])
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_it_times_for_real(net):
    small = px.plan(net, "magnitude", "10% weights").apply(net)
    made, rows = px.to_sparse(small, torch.randn(4, 32), repeats=5)
    assert len(rows) == 3 and all(
        row["dense_ms"] > 0 and row["interval"][0] <= row["ratio"] <= row["interval"][1] for row in rows
    )
    assert [row["sparse"] for row in rows] == [type(made[at]) is CsrLinear for at in (0, 2, 4)]


def test_dense_models_and_other_classes_are_refused(net):
    with pytest.raises(BadInput, match="nothing to gain"):
        px.to_sparse(net, torch.randn(4, 32))
    with pytest.raises(BadInput, match="float32 or float64"):
        CsrLinear(nn.Linear(4, 4).half())


def test_patterns_are_found_by_name_and_saved(net, tmp_path):
    plan = px.plan(net, "magnitude", "2:4")
    assert patterns(plan, net) == {"0.weight": "2:4", "2.weight": "2:4", "4.weight": "2:4"}
    place = px.save(plan.apply(net), plan, tmp_path / "saved")
    assert json.loads((place / "applied.json").read_text())["patterns"]["0.weight"] == "2:4"
    assert patterns(px.plan(net, "magnitude", "50% weights"), net) == {}
    assert patterns(px.plan(net, "magnitude", "3:8"), net)["0.weight"] == "3:8"
    conv = nn.Sequential(nn.Conv2d(8, 4, 3))
    assert patterns(px.plan(conv, "magnitude", "1:4"), conv) == {"0.weight": "1:4"}
    assert nm_of(np.ones((2, 8), dtype=bool)) is None and nm_of(np.zeros((2, 8), dtype=bool)) is None
