"""Criteria of layers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from prunus.core.errors import BadInput, NonFinite, UnknownName
from prunus.core.rng import Rng
from prunus.layers.block_influence import block_influence
from prunus.layers.cka import cka
from prunus.layers.layer_lottery import layer_lottery
from prunus.layers.random import random
from prunus.maths.cka import linear_cka


def layer(mean, tokens=10):
    return SimpleNamespace(
        name="l", block_influence=torch.tensor(mean), block_angle=torch.tensor(mean / 2), block_tokens=tokens
    )


def test_mean_sum_and_angle():
    assert float(block_influence(layer(0.25))) == 0.25
    assert float(block_influence(layer(0.25), parity="official")) == 2.5
    assert float(block_influence(layer(0.25), angular=True)) == 0.125
    assert float(block_influence(layer(0.25), angular=True, parity="official")) == 1.25


def test_a_block_without_finite_influence_is_refused():
    with pytest.raises(NonFinite, match="block l"):
        block_influence(layer(float("nan")))


def test_random_depends_on_seed_and_name():
    one, two = SimpleNamespace(name="h.0"), SimpleNamespace(name="h.1")
    assert random(one, rng=Rng(0, "layers/random")) == random(one, rng=Rng(0, "layers/random"))
    assert random(one, rng=Rng(0, "layers/random")) != random(two, rng=Rng(0, "layers/random"))


def block(**saliency):
    made = {f"block_{name}": torch.tensor(value, dtype=torch.float64) for name, value in saliency.items()}
    return SimpleNamespace(name="b", block_weights=torch.tensor(4.0), **made)


def test_saliency_of_blocks():
    one = block(grasp=-8.0, snip=2.0, l1=3.0, synflow=0.5)
    assert [float(layer_lottery(one, sign=sign)) for sign in ("abs", "high", "low")] == [8, -8, 8]
    assert [float(layer_lottery(one, by=by)) for by in ("snip", "l1", "synflow")] == [2, 3, 0.5]
    assert float(layer_lottery(one, per_weight=True)) == 2
    with pytest.raises(UnknownName, match="snap"):
        layer_lottery(one, by="snap")
    with pytest.raises(NonFinite, match="block b"):
        layer_lottery(block(grasp=float("nan")))


def test_likeness_of_features():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx(1)
    wide = torch.randn(30, 40, generator=generator, dtype=torch.float64)
    assert linear_cka(x, wide) == pytest.approx(linear_cka(wide, x))
    few = slice(0, 4)  # fewer rows than features: the other form
    centred = wide[few] - wide[few].mean(0)
    assert linear_cka(wide[few], wide[few] @ torch.eye(40, dtype=torch.float64)) == pytest.approx(1)
    assert linear_cka(centred, centred[:, :30]) == pytest.approx(
        float((centred.T @ centred[:, :30]).norm() ** 2)
        / float((centred.T @ centred).norm() * (centred[:, :30].T @ centred[:, :30]).norm())
    )
    assert linear_cka(x, torch.ones(30, 2)) == 0
    with pytest.raises(BadInput, match="same rows"):
        linear_cka(x, x[:3])
    one = SimpleNamespace(name="b", block_cka=torch.tensor(0.75), block_cka_without=torch.tensor(0.5))
    assert [float(cka(one, against=how)) for how in ("without", "input")] == [0.5, 0.25]
