"""Compensators lower the output error of every mask, give dense shapes back, and ask for what they need."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.compensate.joint_ls import joint_ls
from prunus.compensate.mean_bias import mean_bias
from prunus.compensate.reader import Matrix
from prunus.compensate.sweep import sweep
from prunus.core.edits import AddBias, SetWeight
from prunus.core.errors import BadInput

TAPS = 9


def linear(seed, axis=1, inputs=8, outputs=5, rows=60):
    """A linear reader and its inputs `[rows, inputs]`, correlated and off centre."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    x = torch.randn(rows, inputs, generator=generator, dtype=torch.float64) @ mix + 1
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    value = weight if axis == 1 else weight.T.contiguous()
    return Matrix("fc", "fc.weight", value, axis, x.mean(0).reshape(-1, 1), 2 * x.T @ x), x, weight


def convolution(seed):
    """A 3x3 reader of 6 channels, its inputs, and the unfolded statistics."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 6, 7, 7, generator=generator, dtype=torch.float64).cumsum(1) + 1
    weight = torch.randn(5, 6, 3, 3, generator=generator, dtype=torch.float64)
    columns = F.unfold(x, 3, padding=1).transpose(0, 1).reshape(6 * TAPS, -1)
    return (
        Matrix("conv", "conv.weight", weight, 1, columns.mean(1).reshape(6, TAPS), 2 * columns @ columns.T),
        x,
        weight,
    )


drops = st.sets(st.integers(0, 7), min_size=1, max_size=7).map(sorted)


def dropped_weight(weight, dropped):
    new = weight.clone()
    new[:, dropped] = 0
    return new


@given(seed=st.integers(0, 300), dropped=drops)
@settings(max_examples=25, deadline=None)
def test_every_compensator_lowers_the_error(seed, dropped):
    reader, x, weight = linear(seed)
    target, zeroed = x @ weight.T, x @ dropped_weight(weight, dropped).T
    plain = (zeroed - target).square().sum()
    bias = torch.from_numpy(mean_bias(reader, np.array(dropped))[0].value)
    assert (zeroed + bias - target).square().sum() <= plain * (1 + 1e-12)
    joint = torch.from_numpy(joint_ls(reader, np.array(dropped), damp=1e-9)[0].value)
    assert not joint[:, dropped].any()
    assert (x @ joint.T - target).square().sum() <= plain * (1 + 1e-9)


@given(seed=st.integers(0, 300), dropped=drops)
@settings(max_examples=10, deadline=None)
def test_mean_bias_is_within_its_bound(seed, dropped):
    reader, x, weight = linear(seed)
    bias = torch.from_numpy(mean_bias(reader, np.array(dropped))[0].value)
    error = (x @ dropped_weight(weight, dropped).T + bias - x @ weight.T).square().sum(1).mean()
    spread = (x.var(0, correction=0) * weight.square().sum(0))[dropped].sum()
    assert error <= len(dropped) * spread * (1 + 1e-9)


def test_a_constant_input_goes_without_error():
    reader, x, weight = linear(1)
    x[:, 3] = 2.5
    reader = Matrix("fc", "fc.weight", weight, 1, x.mean(0).reshape(-1, 1))
    bias = torch.from_numpy(mean_bias(reader, np.array([3]))[0].value)
    torch.testing.assert_close(x @ dropped_weight(weight, [3]).T + bias, x @ weight.T)


def test_a_duplicate_input_is_taken_over():
    reader, x, weight = linear(2)
    x[:, 6] = x[:, 1]
    reader = Matrix("fc", "fc.weight", weight, 1, None, x.T @ x)
    new = torch.from_numpy(joint_ls(reader, np.array([6]), damp=1e-10)[0].value)
    torch.testing.assert_close(x @ new.T, x @ weight.T, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("compensator", [joint_ls, sweep])
def test_convolutions_and_transposed_matrices_keep_their_shape(compensator):
    reader, x, weight = convolution(0)
    (edit,) = compensator(reader, np.array([1, 4]))
    assert isinstance(edit, SetWeight)
    assert edit.parameter == "conv.weight"
    assert edit.value.shape == weight.shape
    new, zeroed = torch.from_numpy(edit.value), dropped_weight(weight, [1, 4])
    errors = [(F.conv2d(x, w, padding=1) - F.conv2d(x, weight, padding=1)).square().sum() for w in (new, zeroed)]
    assert errors[0] < 0.6 * errors[1]
    plain, turned = linear(3)[0], linear(3, axis=0)[0]
    np.testing.assert_allclose(
        compensator(turned, np.array([0, 5]))[0].value.T, compensator(plain, np.array([0, 5]))[0].value
    )


def test_mean_bias_of_a_convolution_is_exact_on_average():
    reader, x, weight = convolution(1)
    (edit,) = mean_bias(reader, np.array([0, 2]))
    assert isinstance(edit, AddBias)
    assert edit.module == "conv"
    new = F.conv2d(x, dropped_weight(weight, [0, 2]), torch.from_numpy(edit.value), padding=1)
    torch.testing.assert_close(new.mean((0, 2, 3)), F.conv2d(x, weight, padding=1).mean((0, 2, 3)))


@pytest.mark.parametrize("compensator", [mean_bias, joint_ls, sweep])
def test_nothing_dropped_is_no_edit_and_float32_stays(compensator):
    reader, _, _ = linear(4)
    assert compensator(reader, np.array([], dtype=np.int64)) == ()
    half = Matrix("fc", "fc.weight", reader.value.bfloat16(), 1, reader.input_mean, reader.hessian)
    assert compensator(half, np.array([1]))[0].value.dtype == np.float32


def test_what_is_missing_or_outside_is_named():
    bare = Matrix("fc", "fc.weight", torch.ones(2, 3))
    with pytest.raises(BadInput, match=r"fc\.weight has no hessian"):
        joint_ls(bare, np.array([1]))
    with pytest.raises(BadInput, match=r"fc\.weight has no input mean"):
        mean_bias(bare, np.array([1]))
    with pytest.raises(BadInput, match=r"reads 3 units; dropped 1\.\.3"):
        mean_bias(bare, np.array([1, 3]))
    wrong = Matrix("fc", "fc.weight", torch.ones(2, 3), 1, None, torch.eye(4))
    with pytest.raises(BadInput, match="reads 3 columns"):
        sweep(wrong, np.array([0]))
