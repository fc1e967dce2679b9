"""SparseGPT: exact counts, less error than masks alone, N:M along channels, dead inputs, grouped convolutions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput
from prunus.core.score import GroupScore
from prunus.select.per_group import per_group
from prunus.weights.sparsegpt import sparsegpt
from prunus.weights.wanda import wanda


def layer(seed, outputs=6, inputs=16, taps=1, rows=80):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(inputs, 4, generator=generator, dtype=torch.float64)
    data = shared @ torch.randn(4, rows, generator=generator, dtype=torch.float64)
    data += 0.3 * torch.randn(inputs, rows, generator=generator, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    return SimpleNamespace(
        name="fc", weight=weight, taps=taps, data=data, hessian=2 * data @ data.T, input_norm=data.norm(dim=1)
    )


def error(one, new):
    return float(((torch.as_tensor(new) - one.weight) @ one.data).square().sum())


@given(seed=st.integers(0, 300), count=st.integers(20, 90), block=st.sampled_from([4, 16, 128]))
@settings(max_examples=15, deadline=None)
def test_exact_count(seed, count, block):
    one = layer(seed)
    mask, new = sparsegpt(one, count, block=block)
    assert mask.sum() == count
    assert not new[~mask].any()


def test_less_error_than_masks_alone():
    ratios = []
    for seed in range(8):
        one = layer(seed)
        scores = wanda(one).numpy()
        mask = np.zeros(scores.size, dtype=bool)
        mask[per_group(GroupScore(scores, np.arange(scores.size)), 48)] = True
        masked = one.weight * torch.from_numpy(mask.reshape(scores.shape))
        ratios.append(error(one, sparsegpt(one, 48)[1]) / error(one, masked))
    assert np.mean(ratios) < 0.5


def test_white_inputs_are_magnitude_without_update():
    one = layer(1)
    one.hessian = torch.eye(16)
    mask, new = sparsegpt(one, 48)
    smallest = np.sort(one.weight.abs().numpy().ravel())
    np.testing.assert_array_equal(mask, one.weight.abs().numpy() > smallest[-49])
    np.testing.assert_allclose(new, one.weight * torch.from_numpy(mask))


def test_n_of_m_runs_along_channels():
    one = layer(2, inputs=8 * 3, taps=3)
    mask, _ = sparsegpt(one, (2, 4))
    assert (mask.reshape(6, 2, 4, 3).sum(2) == 2).all()
    with pytest.raises(BadInput, match="fc: 2 of 4 needs 6 inputs"):
        sparsegpt(layer(2, inputs=6), (2, 4))


def test_keeping_all_changes_nothing():
    one = layer(3)
    mask, new = sparsegpt(one, one.weight.numel())
    assert mask.all()
    np.testing.assert_array_equal(new, one.weight)


def test_dead_inputs_lose_their_weights():
    one = layer(4)
    one.hessian[3], one.hessian[:, 3] = 0, 0
    _, new = sparsegpt(one, 48)
    assert not new[:, 3].any()
    assert np.isfinite(new).all()


def test_groups_of_outputs_have_their_own_hessian():
    one, two = layer(5, outputs=3), layer(6, outputs=3)
    both = SimpleNamespace(
        name="conv", taps=1, weight=torch.cat([one.weight, two.weight]), hessian=torch.stack([one.hessian, two.hessian])
    )
    mask, new = sparsegpt(both, 48)
    for part, alone in enumerate((one, two)):
        expected = sparsegpt(alone, 24)
        np.testing.assert_array_equal(mask[3 * part : 3 * part + 3], expected[0])
        np.testing.assert_allclose(new[3 * part : 3 * part + 3], expected[1])
    both.hessian = torch.eye(5)
    with pytest.raises(BadInput, match="16 inputs but its hessian is"):
        sparsegpt(both, 48)
