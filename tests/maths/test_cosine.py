"""Cosines of hidden states: range, invariance, zero vectors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput
from prunus.maths.cosine import angle, cosine


@given(seed=st.integers(0, 100), scale=st.floats(1e-2, 1e2))
@settings(max_examples=20, deadline=None)
def test_range_and_scale(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    before, after = torch.randn(2, 3, 4, 6, generator=generator)
    values = cosine(before, after)
    assert -1 <= values.min() <= values.max() <= 1
    torch.testing.assert_close(cosine(scale * before, after / scale), values, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.cos(math.pi * angle(values)).float(), values)


def test_identity_zero_and_half_precision():
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cosine(x, 3 * x), torch.ones(2, 3))
    torch.testing.assert_close(cosine(x, -x), -torch.ones(2, 3))
    assert cosine(torch.zeros(1, 3), torch.ones(1, 3)).item() == 0.5
    assert cosine(x.bfloat16(), x.bfloat16()).dtype == torch.float32


def test_shapes_must_agree():
    with pytest.raises(BadInput, match="shapes"):
        cosine(torch.ones(2, 3), torch.ones(3, 3))
