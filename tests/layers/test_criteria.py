"""Criteria of layers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from prunus.core.errors import NonFinite
from prunus.core.rng import Rng
from prunus.layers.block_influence import block_influence
from prunus.layers.random import random
from prunus.maths.cosine import mean_turn


def measured(before, after, mask=None):
    mean, tokens = mean_turn(before, after, mask)
    angle, _ = mean_turn(before, after, mask, angular=True)
    return SimpleNamespace(name="l", block_influence=mean, block_angle=angle, block_tokens=tokens)


def test_an_identity_block_scores_zero_and_the_mean_does_not_grow_with_text():
    x = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    y = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    assert float(block_influence(measured(x, 3 * x))) == pytest.approx(0, abs=1e-12)
    once, twice = measured(x, y), measured(torch.cat([x, x]), torch.cat([y, y]))
    assert float(block_influence(once)) == pytest.approx(float(block_influence(twice)))
    assert 2 * float(block_influence(once, parity="official")) == pytest.approx(
        float(block_influence(twice, parity="official"))
    )
    assert 0 <= float(block_influence(once, angular=True)) <= 1


def test_a_block_that_saw_only_padding_is_refused():
    x = torch.ones(1, 2, 3)
    with pytest.raises(NonFinite, match="block l"):
        block_influence(measured(x, x, torch.zeros(1, 2)))


def test_random_depends_on_seed_and_name():
    one, two = SimpleNamespace(name="h.0"), SimpleNamespace(name="h.1")
    assert random(one, rng=Rng(0, "layers/random")) == random(one, rng=Rng(0, "layers/random"))
    assert random(one, rng=Rng(0, "layers/random")) != random(two, rng=Rng(0, "layers/random"))
