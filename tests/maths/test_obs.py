"""The updates are what they claim to be: least squares, in the right order of error, robust to bad hessians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput, NonFinite
from prunus.maths import obs


def problem(seed, inputs=12, rows=40, outputs=5):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    data = mix @ torch.randn(inputs, rows, generator=generator, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    removed = torch.rand(inputs, generator=generator) < 0.4
    return weight, data, removed


def zeroed(weight, removed):
    return weight.masked_fill(removed, 0.0)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_joint_beats_sweep_and_zeroing(seed):
    weight, data, removed = problem(seed)
    hessian = 2 * data @ data.T
    joint, sweep = obs.joint_update(weight, hessian, removed), obs.sweep_update(weight, hessian, removed)
    errors = [obs.output_error(new - weight, obs.damped(hessian)) for new in (joint, sweep, zeroed(weight, removed))]
    assert errors[0] <= min(errors[1:]) * (1 + 1e-9)
    for new in (joint, sweep):
        assert (new[:, removed] == 0).all()


def test_joint_without_damping_is_least_squares():
    weight, data, removed = problem(3)
    new = obs.joint_update(weight, data @ data.T, removed, damp=0.0)
    best = torch.linalg.lstsq(data[~removed].T, (weight @ data).T).solution.T
    torch.testing.assert_close(new[:, ~removed], best, rtol=1e-8, atol=1e-8)


def test_joint_is_the_closed_form_on_the_inverse():
    weight, data, removed = problem(4)
    hessian = data @ data.T
    inverse = obs.damped_inverse(hessian, 0.02)
    step = torch.linalg.solve(inverse[removed][:, removed], inverse[removed])
    expected = weight - weight[:, removed] @ step
    torch.testing.assert_close(obs.joint_update(weight, hessian, removed, 0.02), expected.masked_fill(removed, 0.0))


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_the_scale_of_the_hessian_cancels(scale, seed):
    weight, data, removed = problem(seed)
    hessian = data @ data.T
    for update in (obs.joint_update, obs.sweep_update):
        torch.testing.assert_close(update(weight, scale * hessian, removed), update(weight, hessian, removed))


def test_white_inputs_need_no_update_and_score_by_magnitude():
    weight, _, removed = problem(5)
    eye = torch.eye(weight.shape[1])
    torch.testing.assert_close(obs.joint_update(weight, eye, removed), zeroed(weight, removed))
    torch.testing.assert_close(obs.column_scores(weight, obs.damped_inverse(eye, 0.0)), weight.square())


def test_block_score_is_the_error_of_the_joint_update():
    weight, data, _ = problem(6)
    hessian, width = data @ data.T, 3
    damped = obs.damped(hessian)
    scores = obs.block_scores(weight, obs.damped_inverse(hessian), width)
    for block, score in enumerate(scores):
        removed = torch.arange(weight.shape[1]) // width == block
        change = obs.joint_update(weight, hessian, removed) - weight
        assert obs.output_error(change, damped) == pytest.approx(float(score), rel=1e-8)


@pytest.mark.parametrize("block", [1, 5, 128])
def test_sweep_does_not_depend_on_its_block(block):
    weight, data, removed = problem(7)
    torch.testing.assert_close(
        obs.sweep_update(weight, data @ data.T, removed, block=block), obs.sweep_update(weight, data @ data.T, removed)
    )


def test_removing_nothing_or_everything():
    weight, data, _ = problem(8)
    none, every = torch.zeros(weight.shape[1], dtype=torch.bool), torch.ones(weight.shape[1], dtype=torch.bool)
    torch.testing.assert_close(obs.joint_update(weight, data @ data.T, none), weight)
    assert not obs.joint_update(weight, data @ data.T, every).any()


def test_dead_inputs_and_few_rows_are_damped():
    weight, data, removed = problem(9, rows=3)
    data[0] = 0
    new = obs.joint_update(weight, data @ data.T, removed)
    assert torch.isfinite(new).all()
    assert obs.damped(torch.zeros(2, 2)).equal(torch.eye(2, dtype=torch.float64))


def test_damping_grows_until_it_factors():
    matrix = torch.diag(torch.tensor([1.0, 1.0, -0.05]))
    assert obs.cholesky(matrix)[2] == pytest.approx(0.1)
    with pytest.raises(BadInput, match="not positive definite"):
        obs.cholesky(torch.diag(torch.tensor([3.0, -4.0])))


def test_bad_hessians_are_refused():
    with pytest.raises(NonFinite, match="overflow"):
        obs.damped(torch.tensor([[np.nan]]))
    with pytest.raises(BadInput, match="square"):
        obs.damped(torch.ones(2, 3))
    with pytest.raises(BadInput, match="damping"):
        obs.damped(torch.eye(2), -1)
