"""Beta sampling: where the density lies, that draws follow the weights, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.beta import beta, shape


def score(values, means, ids=None) -> GroupScore:
    values = np.asarray(values, np.float32)
    ids = np.arange(values.size) if ids is None else ids
    return GroupScore(values, ids, "keep", SimpleNamespace(p_true_early=np.asarray(means, np.float32)))


def test_the_density_moves_to_easy_rows_as_less_is_kept():
    at = [stats.beta(*shape(0.4, dropped, 4.0)).mean() for dropped in (0.1, 0.5, 0.9, 0.99)]
    assert at == sorted(at)
    assert at[0] == pytest.approx(1 - 15 * 0.6 * (1 - 0.1**4) / 16)
    means = np.linspace(0.02, 0.98, 2000)
    kept = [means[beta(score(np.ones(2000), means), n, rng=Rng(0, "x"))].mean() for n in (1800, 200, 20)]
    assert kept == sorted(kept)


def test_draws_are_in_proportion_to_score_times_density():
    values, means = np.array([1.0, 2.0, 0.5, 1.0]), np.array([0.3, 0.5, 0.6, 0.8])
    weights = values * stats.beta(*shape(float(means.mean()), 0.75, 4.0)).pdf(means)
    drawn = [int(beta(score(values, means), 1, rng=Rng(seed, "x"))[0]) for seed in range(4000)]
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.03)


def test_rows_of_score_zero_come_last_and_certain_rows_are_finite():
    values = np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    given = score(values, [0.5, 1.0, 0.0, 0.0, 0.4])
    for seed in range(20):
        assert set(beta(given, 3, rng=Rng(seed, "x"))) == {1, 3, 4}
    assert sorted(beta(given, 5, rng=Rng(0, "x"))) == [0, 1, 2, 3, 4]
    assert beta(given, 0, rng=Rng(0, "x")).size == 0


def test_refusals():
    with pytest.raises(BadInput, match="1 scores are negative"):
        beta(score([1.0, -1.0], [0.5, 0.5]), 1, rng=Rng(0, "x"))
    with pytest.raises(BadInput, match="power must be positive, not 0"):
        beta(score([1.0, 1.0], [0.5, 0.5]), 1, power=0, rng=Rng(0, "x"))
