"""SemDeDup against the released functions, inside given clusters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths.spherical import Clusters
from prunus.select.semdedup import duplicates, semdedup

pytestmark = pytest.mark.golden("semdedup--clusters")
RNG = Rng(0, "golden")


def setting(case):
    x = case["embeddings"]
    score = GroupScore(np.zeros(len(x)), np.arange(len(x)), "keep", SimpleNamespace(embedding=x))
    return score, {"given": Clusters.around(x, case["centroids"], case["cluster"]), "rng": RNG}


def test_order_and_distance(case):
    score, options = setting(case)
    found = duplicates(score, keep="hard", **options)
    np.testing.assert_array_equal(found.order, case["hard_first_order"])
    np.testing.assert_allclose(found.clusters.distance[found.order], case["hard_first_dist"], atol=1e-6)


@pytest.mark.parametrize("keep", ["hard", "easy"])
def test_similarity_to_earlier_rows_and_what_goes(case, keep):
    score, options = setting(case)
    found = duplicates(score, keep=keep, **options)
    np.testing.assert_allclose(found.earlier.similarity, case[f"max_sim_to_earlier_{keep}"], atol=1e-6)
    expected = case[f"removed_{keep}"]
    np.testing.assert_array_equal(found.curve(case["eps"]), (~expected).sum(1))
    for eps, gone in zip(case["eps"].tolist(), expected):
        np.testing.assert_array_equal(found.removed(eps), gone)
        for setting_of_eps in ({}, {"eps": eps}):
            kept = semdedup(score, int((~gone).sum()), keep=keep, **setting_of_eps, **options)
            np.testing.assert_array_equal(np.sort(kept), np.flatnonzero(~gone))


def test_greedy_rule(case):
    score, options = setting(case)
    for eps, gone in zip(case["eps"].tolist(), case["removed_hard_greedy_own"]):
        found = duplicates(score, rule="greedy", eps=eps, **options)
        np.testing.assert_array_equal(found.removed(eps), gone)
        kept = semdedup(score, int((~gone).sum()), rule="greedy", eps=eps, **options)
        np.testing.assert_array_equal(np.sort(kept), np.flatnonzero(~gone))
