"""Sparse pre-training before it is run: averages, plans, and the fit of a law."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from prunus.core.errors import BadInput
from prunus.maths.scaling_law import (
    CHINCHILLA,
    ScalingLaw,
    at_equal_compute,
    average_of_cubic,
    average_parameters,
    by_compute,
    cubic_sparsity,
    fit_scaling_law,
    plan_pretraining,
    predict_with_interval,
)

N = 1e8


def test_average_of_a_cubic_and_of_its_steps():
    for begin, end in ((0, 600), (250, 750), (400, 400)):
        found = average_parameters(N, cubic_sparsity(1000, 0.8, begin=begin, end=end))
        closed = average_of_cubic(N, 0.8, begin=begin / 1000, end=end / 1000)
        assert found == pytest.approx(closed, rel=2e-3)
        assert 0.2 * N <= found <= N
    assert average_of_cubic(N, 0.8, begin=0.25, end=0.75) == pytest.approx(N * (1 - 0.625 * 0.8))
    assert average_parameters(N, np.zeros(7)) == N


def test_later_pruning_keeps_more_on_average():
    averages = [
        average_parameters(N, cubic_sparsity(100, 0.5, begin=b, end=e)) for b, e in ((0, 40), (10, 40), (10, 60))
    ]
    assert averages == sorted(averages) and len(set(averages)) == 3


def test_sparsity_is_held_between_events_and_one_shot_is_a_step():
    found = cubic_sparsity(20, 0.9, begin=4, end=16, every=5)
    assert (
        (found[:4] == 0).all() and (found[4:9] == 0).all() and len(set(found[9:14])) == 1 and (found[16:] == 0.9).all()
    )
    assert set(cubic_sparsity(10, 0.5, begin=5, end=5)) == {0.0, 0.5}
    with pytest.warns(UserWarning, match="no step is left"):
        cubic_sparsity(10, 0.5, begin=0, end=10)
    with pytest.raises(BadInput, match="begin=5"):
        cubic_sparsity(10, 0.5, begin=5, end=4)


@pytest.mark.parametrize("final", [0.0, 0.5, 0.8, 0.95])
def test_shares_of_compute_become_shares_of_steps(final):
    begin, end = by_compute(final)
    steps = 100_000
    active = 1 - cubic_sparsity(steps, final, begin=round(begin * steps), end=round(end * steps))
    spent = np.cumsum(active) / active.sum()
    assert spent[round(begin * steps) - 1] == pytest.approx(0.25, abs=1e-3)
    assert spent[round(end * steps) - 1] == pytest.approx(0.75, abs=1e-3)
    assert begin <= 0.25 + 1e-9


def test_a_plan_ends_at_the_size_that_was_asked_for_and_spends_the_compute():
    found = plan_pretraining(CHINCHILLA, 2e7, sparsity=0.8, flops=1e18)
    assert (found.params, found.final) == (pytest.approx(1e8), 2e7)
    assert 6 * found.average * found.tokens == pytest.approx(1e18)
    assert found.loss == pytest.approx(float(CHINCHILLA.loss(found.average, found.tokens)))
    dense = plan_pretraining(CHINCHILLA, found.average, sparsity=0, flops=1e18)
    assert dense.loss == pytest.approx(found.loss) and dense.average == dense.params


def test_schedules_are_ordered_by_their_loss_at_equal_compute():
    rises = {"0-50": (0, 50), "25-75": (25, 75), "50-99": (50, 99)}
    schedules = {name: cubic_sparsity(100, 0.8, begin=b, end=e) for name, (b, e) in rises.items()}
    found = at_equal_compute(CHINCHILLA, 1e8, schedules, flops=1e18)
    assert [one.loss for one in found.values()] == sorted(one.loss for one in found.values())
    assert len({one.flops for one in found.values()}) == 1
    assert len({round(one.final) for one in found.values()}) == 1
    best = min(found.values(), key=lambda one: float(CHINCHILLA.loss(one.average, one.tokens)))
    assert next(iter(found.values())) == best


def runs(law: ScalingLaw, noise: float = 0.0):
    n, d = (side.ravel() for side in np.meshgrid([1e6, 3e6, 1e7, 3e7, 1e8], [1e8, 1e9, 1e10, 1e11]))
    wobble = np.cos(1.7 * np.arange(n.size))
    return n, d, law.loss(n, d) * np.exp(noise * wobble)


@pytest.mark.parametrize("law", [CHINCHILLA, ScalingLaw(2.1, 120.0, 0.28, 900.0, 0.35)])
def test_planted_constants_are_found_again(law):
    found = fit_scaling_law(*runs(law))
    np.testing.assert_allclose(astuple(found), astuple(law), rtol=1e-3)


def test_intervals_are_wider_far_from_the_runs():
    data = runs(CHINCHILLA, noise=0.01)
    near, (low, high) = predict_with_interval(*data, at=(1e7, 1e10), resamples=20)
    assert low < high and low - 0.02 < near < high + 0.02
    far = predict_with_interval(*data, at=(1e7, 1e13), resamples=20)[1]
    assert far[1] - far[0] > high - low
    with pytest.raises(BadInput, match="five runs"):
        fit_scaling_law([1e6] * 4, [1e9] * 4, [3.0] * 4)
