"""Criteria of weights: invariances that their papers promise."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput, NonFinite
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.per_output import per_output
from prunus.weights.lamp import lamp
from prunus.weights.magnitude import magnitude
from prunus.weights.random import random
from prunus.weights.wanda import wanda


def layer(seed=0, outputs=6, inputs=8, tokens=20):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(tokens, inputs, generator=generator)
    return SimpleNamespace(
        name=f"layer{seed}",
        weight=torch.randn(outputs, inputs, generator=generator),
        input_norm=data.norm(dim=0),
        data=data,
    )


def kept(values, count):
    values = values.numpy()
    return per_output(GroupScore(values, np.arange(values.size)), count)


@given(seed=st.integers(0, 200), column=st.integers(0, 7), scale=st.sampled_from([0.125, 0.5, 4.0, 32.0]))
@settings(max_examples=25, deadline=None)
def test_wanda_ignores_how_scale_is_shared_between_input_and_weight(seed, column, scale):
    one, two = layer(seed), layer(seed)
    two.weight[:, column] /= scale
    two.input_norm[column] *= scale
    np.testing.assert_array_equal(kept(wanda(one), 24), kept(wanda(two), 24))


def test_wanda_with_white_inputs_is_magnitude():
    one = layer(1)
    one.input_norm = torch.full((8,), 3.0)
    np.testing.assert_array_equal(kept(wanda(one), 24), kept(magnitude(one), 24))


def test_wanda_drops_dead_inputs_first():
    one = layer(2)
    one.input_norm[3] = 0
    assert not (kept(wanda(one), 6 * 7) % 8 == 3).any()


def test_wanda_refuses_norms_of_another_layer_and_nan():
    one = layer(3)
    one.input_norm = torch.ones(5)
    with pytest.raises(BadInput, match="layer3 has 8 inputs but norms of 5"):
        wanda(one)
    one.input_norm = torch.tensor([1.0] * 7 + [float("nan")])
    with pytest.raises(NonFinite, match="6 of 48"):
        kept(wanda(one), 24)


def test_scores_leave_half_precision_and_autograd():
    weight = torch.nn.Parameter(torch.randn(3, 4, dtype=torch.bfloat16))
    for score in (magnitude, lamp):
        values = score(SimpleNamespace(weight=weight))
        assert values.dtype == torch.float32
        assert not values.requires_grad
    assert magnitude(SimpleNamespace(weight=torch.ones(1, 1, dtype=torch.float64))).dtype == torch.float64


@given(seed=st.integers(0, 200), scale=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_lamp_is_scale_free_and_keeps_the_order(seed, scale):
    one, two = layer(seed), layer(seed)
    two.weight *= scale
    values = lamp(one)
    torch.testing.assert_close(values, lamp(two), rtol=1e-4, atol=1e-7)
    assert values.max() == 1
    order = values.reshape(-1)[one.weight.abs().reshape(-1).argsort()]
    assert (order.diff() >= 0).all()


def test_lamp_of_zeros_is_zero():
    assert not lamp(SimpleNamespace(weight=torch.zeros(2, 3))).any()


def test_random_depends_on_seed_and_layer_only():
    values = random(layer(1), rng=Rng(0, "weights/random"))
    assert values.shape == (6, 8)
    assert values.equal(random(layer(1), rng=Rng(0, "weights/random")))
    assert not values.equal(random(layer(2), rng=Rng(0, "weights/random")))
    assert not values.equal(random(layer(1), rng=Rng(1, "weights/random")))
