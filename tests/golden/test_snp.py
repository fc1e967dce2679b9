"""Search and prune against the released functions: distances, ranking, prefixes, identities, thinning: every array."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths.frechet import Frechet, Moments
from prunus.select.by_label import part
from prunus.select.identity_search import search
from prunus.select.snp import snp, thinned
from prunus.select.vectors import vectors
from prunus.signals.rowset import Signals

pytestmark = [pytest.mark.golden("snp--search"), pytest.mark.filterwarnings("ignore:distances between sets")]
RNG = Rng(0, "golden")


def pool(case) -> GroupScore:
    n = len(case["pool_identity"])
    signals = Signals(embedding=case["pool_features"], identity=case["pool_identity"])
    return GroupScore(np.zeros(n), np.arange(n), "keep", signals, "pool")


def searched(case):
    return search(pool(case), case["target_features"], by="identity", given=case["identity_cluster"])


def image_count(case, rows: int) -> int:
    return int(case.value("image_ratio") * rows)


def test_distances_and_diversity_of_the_clusters(case):
    found = searched(case)
    np.testing.assert_allclose(found.distance, case["cluster_fid"], rtol=1e-6)
    np.testing.assert_allclose(found.diversity, case["cluster_diversity"], rtol=1e-6)
    np.testing.assert_array_equal(found.rank, case["cluster_rank"])


def test_the_distance_alone(case):
    away = Frechet(Moments.of(case["target_features"]))
    member = case["identity_cluster"][np.searchsorted(np.unique(case["pool_identity"]), case["pool_identity"])]
    for cluster, distance in enumerate(case["cluster_fid"]):
        assert away(Moments.of(case["pool_features"][member == cluster])) == pytest.approx(distance, rel=1e-6)


def test_prefixes_and_the_identities_found(case):
    found = searched(case)
    np.testing.assert_allclose(found.prefix, case["prefix_fid"], rtol=1e-6)
    assert found.best() == case.value("best_prefix")
    np.testing.assert_array_equal(found.identities[found.found()], case["searched_identities"])
    np.testing.assert_allclose(found.nearness(), case["identity_score_softmax"], rtol=1e-6, atol=1e-12)


def test_the_greedy_control_takes_the_identities_of_largest_score(case):
    found, place = searched(case), np.unique(case["pool_identity"])
    share = case["identity_score_softmax"][np.searchsorted(place, case["searched_identities"])]
    few = max(found.found().size // 2, 1)
    kept = snp(
        pool(case), few, target=case["target_features"], by="identity", given=case["identity_cluster"],
        identities=few, prefer="nearest", parity="official", rng=RNG,
    )  # fmt: skip
    chosen = np.unique(case["pool_identity"][kept])
    assert chosen.size == few and set(chosen) <= set(case["searched_identities"])
    np.testing.assert_allclose(
        np.sort(case["identity_score_softmax"][np.searchsorted(place, chosen)]), np.sort(share)[-few:], rtol=1e-6
    )


@pytest.mark.parametrize("parity", ["official", "paper"])
def test_thinning_in_order(case, parity):
    rows = np.flatnonzero(np.isin(case["pool_identity"], case["kept_identities_given"]))
    count, first = image_count(case, rows.size), case["one_image_per_identity"]
    expected = case["fps_official_empty_start" if parity == "official" else "fps_seeded_intended"]
    assert count == first.size + expected.size
    given = vectors(part(pool(case), rows))
    of = np.unique(case["pool_identity"][rows], return_inverse=True)[1]
    kept = rows[thinned(given, of, count, parity=parity, rng=RNG)]
    np.testing.assert_array_equal(np.sort(kept[: first.size]), np.sort(first))
    np.testing.assert_array_equal(kept[first.size :], expected)


@pytest.mark.parametrize("parity", ["official", "paper"])
def test_the_whole_selection(case, parity):
    """Where all identities that were found are kept, as many rows as the case thins them to."""
    rows = np.flatnonzero(np.isin(case["pool_identity"], case["searched_identities"]))
    count = image_count(case, rows.size)
    kept = snp(
        pool(case), count, target=Signals(embedding=case["target_features"]), by="identity",
        given=case["identity_cluster"], parity=parity, rng=RNG,
    )  # fmt: skip
    assert set(kept) <= set(rows) and kept.size == count
    np.testing.assert_array_equal(np.unique(case["pool_identity"][kept]), case["searched_identities"])
    if np.array_equal(case["kept_identities_given"], case["searched_identities"]):
        expected = case["fps_official_empty_start" if parity == "official" else "fps_seeded_intended"]
        np.testing.assert_array_equal(np.sort(kept), np.sort([*case["one_image_per_identity"], *expected]))
