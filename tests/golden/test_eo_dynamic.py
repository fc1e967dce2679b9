"""Dynamic curation against the published hierarchical sampling, on its own clusters: levels, leaves, nearest rows, entropy."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.rows.eo_dynamic import EODynamic
from prunus.rows.hierarchy import Hierarchy, fill

pytestmark = pytest.mark.golden("eo-dynamic--hier-sampling")


def selected(case, seed=0):
    x, leaf = case["X"], case["leaf_of"]
    distance = np.linalg.norm(x - case["centroids"][leaf], axis=1)
    np.testing.assert_allclose(distance, case["dist"], atol=1e-6)
    method = EODynamic(np.arange(len(x)), count=int(case.value("target")), eta=-np.inf, seed=seed)
    return method.select(x, tree=Hierarchy(leaf, case["dist"], (case["top_of_leaf"],)))


def entropy(leaf):
    share = np.bincount(leaf) / leaf.size
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def level(sizes, target):
    counts = fill(sizes, target, np.arange(sizes.size))
    return int(counts[counts < sizes].min()) if (counts < sizes).any() else int(sizes.max())


def test_levels(case):
    leaves = np.bincount(case["leaf_of"], minlength=len(case["top_of_leaf"]))
    tops = np.bincount(case["top_of_leaf"], leaves).astype(int)
    target = int(case.value("target"))
    assert level(tops, target) == int(case.value("cut_top"))
    assert level(leaves, target) == int(case.value("cut_flat"))


@pytest.mark.parametrize("seed", range(3))
def test_rows(case, seed):
    leaf, top, cut = case["leaf_of"], case["top_of_leaf"], int(case.value("cut_top"))
    rows = selected(case, seed)
    assert rows.size == np.unique(rows).size == int(case.value("target"))
    of_top, sizes = (np.bincount(top[part], minlength=top.max() + 1) for part in (leaf[rows], leaf))
    assert (of_top >= np.minimum(cut, sizes)).all()
    assert (of_top <= np.minimum(cut + 1, sizes)).all()
    counts = np.bincount(leaf[rows], minlength=top.size)
    for number in range(top.size):  # the nearest of each leaf
        members = np.flatnonzero(leaf == number)
        nearest = members[np.argsort(case["dist"][members], kind="stable")][: counts[number]]
        assert set(rows[leaf[rows] == number]) == set(nearest)
    assert np.abs(counts - case["selected_per_leaf"]).max() <= 2  # one of what is left, at each of two levels
    same = counts == case["selected_per_leaf"]
    for number in np.flatnonzero(same):
        stored = case["selected"][leaf[case["selected"]] == number]
        assert set(rows[leaf[rows] == number]) == set(stored)
    assert entropy(leaf) == pytest.approx(float(case.value("entropy_full")), abs=1e-6)
    assert entropy(leaf[case["selected"]]) == pytest.approx(float(case.value("entropy_selected")), abs=1e-6)
    assert entropy(leaf[rows]) == pytest.approx(float(case.value("entropy_selected")), abs=0.05)
