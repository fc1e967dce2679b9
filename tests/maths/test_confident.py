"""Confident learning by hand: thresholds, the counts of wrong labels, and which rows two rules call."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.maths.confident import by_confidence, by_noise_rate, confident, off_diagonal, thresholds


def rows(seed=0, n=60, c=3):
    random = np.random.RandomState(seed)
    labels = random.randint(0, c, n)
    logits = 2 * random.randn(n, c) + 2 * np.eye(c)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probs, labels, random.permutation(n) * 3


def test_counts_are_scaled_to_the_rows_of_each_class():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([0, 0, 0, 0, 1, 1])
    limits = thresholds(probs, labels, np.arange(6))
    np.testing.assert_allclose(limits, [0.6, 0.75])
    assert confident(probs, limits).tolist() == [0, 0, 1, 0, 1, -1]
    assert off_diagonal(probs, labels, limits).tolist() == [[0, 1], [0, 0]]
    twice = np.concatenate([probs, probs[3:4]])  # a row of class 0 at its threshold: 4 of 5 confident rows stay there
    more = off_diagonal(twice, np.append(labels, 0), np.array([0.7, 0.75]))
    assert more.tolist() == [[0, 2], [0, 0]]  # 2 and 1 of 3 confident rows, scaled to 5 rows
    assert by_noise_rate(probs, labels, limits, np.arange(6)).nonzero()[0].tolist() == [2]


def test_a_called_row_prefers_another_class():
    for seed in range(5):
        probs, labels, ids = rows(seed)
        limits = thresholds(probs, labels, ids)
        own = probs[np.arange(60), labels]
        for called in (by_confidence(probs, labels, limits), by_noise_rate(probs, labels, limits, ids)):
            assert (probs.max(1) > own)[called].all()
        counts = off_diagonal(probs, labels, limits)
        assert (counts.diagonal() == 0).all()
        assert by_noise_rate(probs, labels, limits, ids).sum() <= counts.sum()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_the_order_of_the_rows_does_not_matter(seed):
    probs, labels, ids = rows(seed)
    order = np.random.RandomState(seed + 1).permutation(60)
    limits = thresholds(probs, labels, ids)
    np.testing.assert_array_equal(thresholds(probs[order], labels[order], ids[order]), limits)
    called = by_noise_rate(probs, labels, limits, ids)
    np.testing.assert_array_equal(by_noise_rate(probs[order], labels[order], limits, ids[order]), called[order])


def test_what_fits_is_not_called():
    labels = np.arange(9) % 3
    probs = np.full((9, 3), 0.05) + 0.85 * np.eye(3)[labels]
    limits = thresholds(probs, labels, np.arange(9))
    assert not by_confidence(probs, labels, limits).any()
    assert not by_noise_rate(probs, labels, limits, np.arange(9)).any()
    same = np.full((9, 3), 1 / 3)  # a model that knows nothing calls nothing
    assert not by_noise_rate(same, labels, thresholds(same, labels, np.arange(9)), np.arange(9)).any()
