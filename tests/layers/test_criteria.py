"""Criteria of layers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from prunus.core.errors import NonFinite
from prunus.core.rng import Rng
from prunus.layers.block_influence import block_influence
from prunus.layers.random import random


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
