"""ALPS, least squares under a mask, RIA, DSnoT: what has no released numbers here is held to invariants."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.compensate.least_squares import least_squares
from prunus.core.errors import BadInput
from prunus.maths.obs import cholesky, output_error
from prunus.weights.alps import alps
from prunus.weights.dsnot import dsnot
from prunus.weights.ria import ria
from prunus.weights.sparsegpt import sparsegpt

COUNTS = [48, (2, 4)]


def layer(seed, outputs=6, inputs=16, taps=1, rows=80):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(inputs, 4, generator=generator, dtype=torch.float64)
    data = shared @ torch.randn(4, rows, generator=generator, dtype=torch.float64) + 1
    data += 0.3 * torch.randn(inputs, rows, generator=generator, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    stats = {"input_norm": data.norm(dim=1), "input_mean": data.mean(1), "input_var": data.var(1, correction=0)}
    return SimpleNamespace(name="fc", weight=weight, taps=taps, hessian=data @ data.T, **stats)


def error(one, new):
    return output_error(torch.as_tensor(new) - one.weight, cholesky(one.hessian)[0])


@given(seed=st.integers(0, 300), count=st.sampled_from([20, 48, 70, (2, 4), (1, 4)]))
@settings(max_examples=15, deadline=None)
def test_alps_is_never_above_sparsegpt_nor_its_own_support_solved(seed, count):
    one = layer(seed)
    mask, new = alps(one, count)
    rival, other = sparsegpt(one, count)
    assert mask.sum() == rival.sum() and not new[~mask].any()
    assert error(one, new) <= error(one, other) * (1 + 1e-9)
    assert error(one, new) <= error(one, least_squares(one, rival)) * (1 + 1e-6)


def test_alps_is_better_than_sparsegpt_on_most_layers():
    ratios = [error(layer(s), alps(layer(s), 30)[1]) / error(layer(s), sparsegpt(layer(s), 30)[1]) for s in range(10)]
    assert np.median(ratios) < 0.9


@pytest.mark.parametrize("count", COUNTS)
def test_alps_with_white_inputs_is_magnitude(count):
    one = layer(1)
    one.hessian = torch.eye(16)
    mask, new = alps(one, count)
    size = one.weight.abs()
    if isinstance(count, tuple):
        best = size.reshape(-1, 4).argsort(1)[:, 2:]
        expected = torch.zeros(24, 4, dtype=torch.bool).scatter_(1, best, True).reshape(6, 16)
    else:
        expected = size > size.flatten().sort().values[-count - 1]
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_allclose(new, one.weight * expected, atol=1e-9)


def test_n_of_m_runs_along_channels_and_groups_have_their_own_hessian():
    one = layer(2, inputs=8 * 3, taps=3)
    for solve in (alps, dsnot):
        assert (solve(one, (2, 4))[0].reshape(6, 2, 4, 3).sum(2) == 2).all()
    first, second = layer(5, outputs=3), layer(6, outputs=3)
    both = SimpleNamespace(
        name="conv",
        taps=1,
        weight=torch.cat([first.weight, second.weight]),
        hessian=torch.stack([first.hessian, second.hessian]),
    )
    mask, new = alps(both, 48)
    for part, alone in enumerate((first, second)):
        expected = alps(alone, 24)
        np.testing.assert_array_equal(mask[3 * part : 3 * part + 3], expected[0])
        np.testing.assert_allclose(new[3 * part : 3 * part + 3], expected[1])
    np.testing.assert_allclose(least_squares(both, mask)[:3], least_squares(first, mask[:3]))


@given(seed=st.integers(0, 300))
@settings(max_examples=15, deadline=None)
def test_least_squares_under_a_mask_is_the_exact_solution(seed):
    one = layer(seed)
    mask = np.random.RandomState(seed).rand(6, 16) < 0.5
    new, matrix = torch.from_numpy(least_squares(one, mask)), cholesky(one.hessian)[0]
    for line, kept in enumerate(torch.from_numpy(mask)):
        exact = torch.linalg.solve(matrix[kept][:, kept], (matrix @ one.weight[line])[kept])
        torch.testing.assert_close(new[line, kept], exact, rtol=1e-5, atol=1e-6)
    assert not new[~torch.from_numpy(mask)].any()


def test_least_squares_refuses_other_layers():
    with pytest.raises(BadInput, match="fc has weights"):
        least_squares(layer(0), np.ones((6, 15), dtype=bool))


def test_ria_is_scale_free_and_by_hand():
    one, two = layer(3), layer(3)
    two.weight = 7 * two.weight
    torch.testing.assert_close(ria(one), ria(two))
    size = one.weight.abs()
    by_hand = (size[2, 5] / size[2].sum() + size[2, 5] / size[:, 5].sum()) * one.input_norm[5] ** 0.5
    assert float(ria(one)[2, 5]) == pytest.approx(float(by_hand))
    torch.testing.assert_close(ria(one, power=0.0) * one.input_norm.sqrt(), ria(one))
    one.input_norm = torch.ones(5)
    with pytest.raises(BadInput, match="16 inputs but norms of 5"):
        ria(one)


def expected_error(one, mask):
    return (np.where(mask, 0, one.weight.numpy()) @ one.input_mean.numpy()).__abs__()


@given(seed=st.integers(0, 300), start=st.sampled_from(["ria", "wanda", "magnitude"]), count=st.sampled_from(COUNTS))
@settings(max_examples=20, deadline=None)
def test_dsnot_keeps_counts_and_values_and_lowers_every_expected_error(seed, start, count):
    one = layer(seed)
    before, _ = dsnot(one, count, start=start, cycles=0)
    mask, new = dsnot(one, count, start=start)
    np.testing.assert_array_equal(mask.sum(1), before.sum(1))
    np.testing.assert_array_equal(new, np.where(mask, one.weight, 0))
    assert (expected_error(one, mask) <= expected_error(one, before) + 1e-12).all()
    if isinstance(count, tuple):
        assert (mask.reshape(-1, 4).sum(1) == 2).all()


def test_dsnot_does_swap_and_stops_where_it_is_told():
    one = layer(4)
    before, after = dsnot(one, 48, cycles=0)[0], dsnot(one, 48)[0]
    assert (before != after).any()
    np.testing.assert_array_equal(dsnot(one, 48, stop=1.0)[0], before)
    swapped = (before != dsnot(one, 48, cycles=1)[0]).sum(1)
    assert set(swapped.tolist()) <= {0, 2}


def test_dsnot_with_centred_inputs_is_its_start():
    one = layer(5)
    one.input_mean = torch.zeros(16)
    np.testing.assert_array_equal(dsnot(one, 48)[0], dsnot(one, 48, cycles=0)[0])
