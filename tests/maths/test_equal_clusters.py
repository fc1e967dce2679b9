"""Clusters of equal size: sizes, the cheapest assignment against scipy, a better fit than halves, ties, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from prunus.core.errors import BadInput
from prunus.maths.equal_clusters import equal, halves, kmeans

RNG = np.random.default_rng(0)


def sizes_fit(assigned, n, k):
    sizes = np.bincount(assigned, minlength=k)
    return sizes.size == k and sizes.min() >= n // k and sizes.max() <= -(-n // k) and sizes.sum() == n


def cheapest(costs):
    """By n // k slots in each cluster that must be filled and one more that may be."""
    n, k = costs.shape
    must = np.repeat(costs, n // k, axis=1) - 1000
    slots = np.concatenate([must, costs], axis=1) if n % k else must
    rows, columns = linear_sum_assignment(slots)
    clusters = np.concatenate([np.repeat(np.arange(k), n // k), np.arange(k)])[columns]
    return costs[rows, clusters].sum()


@pytest.mark.parametrize("n, k", [(1, 1), (7, 7), (12, 5), (30, 4), (31, 3), (40, 9)])
def test_the_assignment_is_the_cheapest(n, k):
    for skew in (0.0, 3.0):
        costs = RNG.random((n, k)) + skew * RNG.random(k)
        found = equal(costs)
        assert sizes_fit(found, n, k)
        assert costs[np.arange(n), found].sum() == pytest.approx(cheapest(costs), abs=1e-9)


@pytest.mark.parametrize("n, k", [(10, 3), (64, 8), (65, 8), (100, 1), (9, 9)])
def test_sizes_are_equal(n, k):
    x = RNG.standard_normal((n, 3))
    assert sizes_fit(halves(x, k), n, k) and sizes_fit(kmeans(x, k), n, k)


def within(x, assigned):
    return sum(((x[assigned == c] - x[assigned == c].mean(0)) ** 2).sum() for c in np.unique(assigned))


def test_kmeans_finds_clusters_that_are_there_and_is_no_worse_than_halves():
    truth = np.repeat(np.arange(6), 20)
    x = (8 * RNG.standard_normal((6, 4)))[truth] + RNG.standard_normal((120, 4))
    found = kmeans(x, 6)
    assert {tuple(np.unique(truth[found == c])) for c in range(6)} == {(c,) for c in range(6)}
    loose = RNG.standard_normal((120, 4))
    assert within(loose, kmeans(loose, 7)) <= within(loose, halves(loose, 7))


def test_equal_rows_go_in_their_order():
    same = np.ones((7, 2))
    assert halves(same, 2).tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert sizes_fit(kmeans(same, 3), 7, 3)
    assert equal(np.zeros((6, 3))).size == 6


@pytest.mark.parametrize("clusters", [0, 8])
def test_impossible_numbers_are_refused(clusters):
    with pytest.raises(BadInput, match="7 rows"):
        kmeans(np.ones((7, 2)), clusters)
