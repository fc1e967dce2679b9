"""Turn of hidden states: range, invariance, padding, zero vectors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput
from prunus.maths.cosine import mean_turn, turn


@given(seed=st.integers(0, 100), scale=st.floats(1e-2, 1e2))
@settings(max_examples=20, deadline=None)
def test_range_and_scale(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    before, after = torch.randn(2, 3, 4, 6, generator=generator)
    values = turn(before, after)
    assert 0 <= values.min() <= values.max() <= 2
    torch.testing.assert_close(turn(scale * before, after / scale), values, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.cos(math.pi * turn(before, after, angular=True)), 1 - values)


def test_identity_turns_nothing():
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    assert turn(x, x).abs().max() < 1e-12
    assert turn(x, -x).min() == pytest.approx(2)


def test_padding_does_not_count():
    generator = torch.Generator().manual_seed(1)
    before, after = torch.randn(2, 2, 5, 4, generator=generator)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    mean, tokens = mean_turn(before, after, mask)
    before[mask == 0], after[mask == 0] = 7.0, -3.0
    assert mean_turn(before, after, mask) == (pytest.approx(mean), 7)
    assert tokens == 7


def test_zero_vectors_count_half_and_shapes_must_agree():
    assert turn(torch.zeros(1, 3), torch.ones(1, 3)).item() == 0.5
    with pytest.raises(BadInput, match="shapes"):
        turn(torch.ones(2, 3), torch.ones(3, 3))
