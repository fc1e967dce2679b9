"""Ranks before and after retraining."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from prunus.core.errors import BadInput
from prunus.core.rng import uniform
from prunus.measure.rank_agreement import proxy, rank_agreement

IDS = np.arange(60)
X, NOISE = uniform(0, "before", IDS), uniform(0, "noise", IDS)


def test_a_perfect_oracle():
    found = rank_agreement(X, 2 * X, better="lower")
    assert (found.tau, found.anomalies, found.counterexamples, found.verdict) == (1, 0, 0, "supported")
    turned = rank_agreement(X, -X, better="higher")
    assert (turned.tau, turned.anomalies, turned.counterexamples, turned.verdict) == (-1, 0, 0, "supported")


def test_an_oracle_that_is_upside_down_is_not_supported_however_strong_the_correlation():
    found = rank_agreement(X, -X, better="lower")
    assert (found.tau, found.counterexamples, found.verdict) == (-1, 1, "not supported")
    assert found.anomalies == pytest.approx(59 / 60)


def test_unrelated_numbers():
    found = rank_agreement(X, NOISE, better="lower")
    assert found.verdict == "not supported"
    assert found.interval[0] < 0 < found.interval[1]
    assert found.counterexamples == pytest.approx((1 - found.tau) / 2)


def test_the_interval_is_that_of_scipy_on_resampled_candidates():
    x, y = np.round(X[:20], 1), np.round((X + NOISE)[:20], 1)
    found = rank_agreement(x, y, better="lower", resamples=4000)
    rng = np.random.RandomState(0)
    draws = [rng.randint(0, 20, 20) for _ in range(1500)]
    taus = [kendalltau(x[at], y[at]).statistic for at in draws]
    np.testing.assert_allclose(found.interval, np.quantile(taus, [0.025, 0.975]), atol=0.04)
    assert found.interval[0] < found.tau < found.interval[1]


def test_failed_retrainings_are_dropped_and_counted():
    after = X.copy()
    after[[3, int(X.argmin())]] = np.nan
    found = rank_agreement(X, after, better="lower")
    assert (found.candidates, found.dropped) == (58, 2)
    assert found.oracle == np.flatnonzero(np.sort(X)[1] == X)[0]


def test_constant_results_have_no_tau_and_few_candidates_no_verdict():
    assert math.isnan(rank_agreement(X, np.ones(60), better="higher").tau)
    assert rank_agreement(X[:9], X[:9], better="lower").verdict == "too few candidates"
    with pytest.raises(BadInput, match="two lists"):
        rank_agreement(X, X[:3], better="lower")


def test_a_short_retraining_as_a_proxy():
    assert proxy(X, X + 0.01 * NOISE) > 0.9 > proxy(X, NOISE)
