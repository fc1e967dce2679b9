"""Frechet distance: known cases, invariances, moments that add up, degenerate covariances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from prunus.core.errors import BadInput
from prunus.maths.frechet import Frechet, Moments

RNG = np.random.default_rng(0)
A = RNG.standard_normal((80, 5)) @ RNG.standard_normal((5, 5)) + 1
B = RNG.standard_normal((50, 5)) @ RNG.standard_normal((5, 5))


def apart(a, b):
    return Frechet(Moments.of(a))(Moments.of(b))


def test_the_definition():
    sa, sb = np.cov(A.T), np.cov(B.T)
    expected = ((A.mean(0) - B.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * np.real(sqrtm(sa @ sb)))
    assert apart(A, B) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(Moments.of(A).covariance, sa, rtol=1e-12)


def test_symmetric_and_zero_for_equal_sets():
    assert apart(A, B) == pytest.approx(apart(B, A), rel=1e-9)
    assert abs(apart(A, A)) < 1e-8


def test_rotation_and_translation_change_nothing():
    turn, shift = np.linalg.qr(RNG.standard_normal((5, 5)))[0], 10 * RNG.standard_normal(5)
    assert apart(A @ turn + shift, B @ turn + shift) == pytest.approx(apart(A, B), rel=1e-8)


def test_commuting_covariances():
    one, two = np.array([1.0, 4, 9]), np.array([16.0, 1, 0])
    made = [Moments(10, np.full(3, mean), 9 * np.diag(variance)) for mean, variance in ((0.0, one), (2.0, two))]
    assert Frechet(made[0])(made[1]) == pytest.approx(12 + ((np.sqrt(one) - np.sqrt(two)) ** 2).sum())


def test_moments_add_up():
    both = Moments.of(np.concatenate([A, B]))
    added = Moments.of(A) + Moments.of(B)
    assert added.count == 130
    np.testing.assert_allclose(added.mean, both.mean, rtol=1e-12)
    np.testing.assert_allclose(added.scatter, both.scatter, rtol=1e-10)


def test_few_rows_have_an_answer():
    assert np.isfinite(apart(A, B[:2]))
    assert apart(A[:1], B[:1]) == pytest.approx(((A[0] - B[0]) ** 2).sum())
    with pytest.raises(BadInput, match="moments"):
        Moments.of(A[:0])
    with pytest.raises(BadInput, match="5 and of 4"):
        apart(A, B[:, :4])
