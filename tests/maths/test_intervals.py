"""k-means of numbers: the best of all partitions of few values, and no worse than scikit-learn's of many."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from prunus.core.errors import BadInput
from prunus.maths.intervals import assign, intervals


def spread(values, of):
    return sum(((values[of == g] - values[of == g].mean()) ** 2).sum() for g in np.unique(of))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=9), st.integers(1, 4))
def test_no_partition_is_better(values, clusters):
    values = np.array(values, dtype=np.float32)
    of = assign(values, intervals(values, clusters))
    distinct = np.unique(values)
    number = min(clusters, distinct.size)
    assert np.unique(of).tolist() == list(range(number))
    best = min(
        spread(values, np.searchsorted(distinct[list(cuts)], values, side="right"))
        for cuts in combinations(range(1, distinct.size), number - 1)
    )
    assert spread(values, of) <= best + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_many_values_are_grouped_as_well_as_by_sklearn(seed):
    values = np.random.default_rng(seed).exponential(size=20_000).astype(np.float32)
    ours = spread(values.astype(float), assign(values, intervals(values, 5)))
    theirs = KMeans(5, random_state=seed, n_init=3).fit(values[:, None]).inertia_
    assert ours <= theirs * (1 + 1e-3)


def test_refusals():
    with pytest.raises(BadInput, match="at least 1"):
        intervals(np.zeros(0), 2)
