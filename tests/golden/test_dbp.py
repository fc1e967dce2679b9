"""Density-based pruning: distances and probabilities of the released functions, and the exact allocation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from prunus.allocate.closest import closest, project
from prunus.allocate.request import Request
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths.spherical import Clusters
from prunus.select.dbp import allocation, dbp

pytestmark = pytest.mark.golden("dbp--allocation")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def clustered(case):
    return Clusters.around(case["embeddings"], case["centroids"], case["cluster"])


def options(case, kind):
    floors = {"min1": {"floor": 1}, "bal": {"balance": float(case.value("cls_bal_ratio"))}}[kind]
    return {"temperature": float(case.value("temperature")), "neighbours": int(case.value("n_neighbors")), **floors}


def test_complexity_of_clusters(case):
    made, target = clustered(case), int(case.value("target_size"))
    found = allocation(made, target, **options(case, "min1"))
    np.testing.assert_array_equal(made.sizes, case["cluster_sizes"])
    for ours, name in ((found.intra, "d_intra"), (found.inter, "d_inter"), (found.complexity, "complexity")):
        np.testing.assert_allclose(ours, case[name], err_msg=name, **CLOSE)
    np.testing.assert_allclose(found.share, case["probs"], **CLOSE)
    assert target == int(float(case.value("keep_ratio")) * len(case["embeddings"]))


@pytest.mark.parametrize("kind", ["min1", "bal"])
def test_counts(case, kind):
    target = int(case.value("target_size"))
    found = allocation(clustered(case), target, **options(case, kind))
    np.testing.assert_array_equal(found.floors, case[f"lower_bound_{kind}"])
    exact = case[f"exact_continuous_{kind}"]
    # It was made from float32 probabilities that add up to 1 only to their last bits; ours are float64.
    floors, share = case[f"lower_bound_{kind}"].astype(np.int64), case["probs"].astype(np.float64)
    np.testing.assert_allclose(project(target * share, floors, case["cluster_sizes"], target), exact, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.exact, exact, rtol=0, atol=2e-7 * target)
    np.testing.assert_array_equal(found.counts, case[f"largest_remainder_{kind}"])
    assert np.abs(found.counts - case[f"osqp_rint_{kind}"]).max() <= 2
    assert found.counts.sum() == target


@pytest.mark.parametrize("kind", ["min1", "bal"])
def test_the_allocator_gives_the_same_counts(case, kind):
    scores = [np.full(size, value) for size, value in zip(case["cluster_sizes"], case["complexity"])]
    floors = case[f"lower_bound_{kind}"].astype(np.int64)
    request = Request.of(case["cluster_sizes"], int(case.value("target_size")), scores=scores, floors=floors)
    counts = closest(request, temperature=float(case.value("temperature")))
    np.testing.assert_array_equal(counts, case[f"largest_remainder_{kind}"])


def test_rows_that_stay(case):
    x = case["embeddings"]
    score = GroupScore(np.zeros(len(x)), np.arange(len(x)), "keep", SimpleNamespace(embedding=x))
    settings = {"given": clustered(case), "rng": Rng(0, "golden"), **options(case, "min1")}
    kept = dbp(score, int(case.value("target_size")), **settings)
    np.testing.assert_array_equal(np.sort(kept), np.sort(case["kept_hard_min1"]))
