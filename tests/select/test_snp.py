"""Search and prune: the search finds what is like the target, budgets are exact, every identity keeps a row, refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths.frechet import Frechet, Moments
from prunus.select.identity_search import search
from prunus.select.snp import snp
from prunus.signals.rowset import Signals

pytestmark = pytest.mark.filterwarnings("ignore:distances between sets")
RNG = Rng(0, "test")
D = 4
rng = np.random.default_rng(0)
IDENTITY = np.repeat(np.arange(30), 8)  # 0..9 are like the target, the others are not
CENTRES = rng.standard_normal((30, D)) + np.where(np.arange(30) < 10, 0, 9)[:, None]
X = CENTRES[IDENTITY] + 0.5 * rng.standard_normal((240, D))
TARGET = rng.standard_normal((100, D)) * 1.1


def pool(order=None, **more):
    at = np.arange(240) if order is None else order
    fields = {"embedding": X[at], "labels": IDENTITY[at]} | more
    return GroupScore(np.zeros(240), 500 + at, "keep", Signals(500 + at, **fields), "pool")


def kept(count, given=None, **options):
    return snp(given or pool(), count, **{"target": TARGET, "clusters": 6, "rng": RNG} | options)


@pytest.mark.parametrize("clustering", ["kmeans", "halves"])
def test_the_search_leaves_out_what_is_unlike_the_target(clustering):
    found = search(pool(), TARGET, clusters=6, clustering=clustering)
    chosen = found.identities[found.found()]
    assert set(chosen) <= set(range(10)) and chosen.size == 10
    assert found.prefix[found.best() - 1] == found.prefix.min() <= found.prefix[-1]
    union = np.isin(IDENTITY, chosen)
    assert found.prefix.min() == pytest.approx(Frechet(Moments.of(TARGET))(Moments.of(X[union])), rel=1e-9)
    assert found.prefix[0] == pytest.approx(found.distance.min(), rel=1e-9)
    np.testing.assert_array_equal(np.bincount(found.clusters), np.full(6, 5))


@pytest.mark.parametrize("count", [1, 9, 10, 11, 40, 79, 80, 81, 200, 240])
@pytest.mark.parametrize("options", [{}, {"thin": "random"}, {"prefer": "nearest"}])
def test_counts_are_exact_and_every_kept_identity_has_its_first_row(count, options):
    found = kept(count, **options)
    assert found.size == np.unique(found).size == count
    chosen = np.unique(IDENTITY[found])
    firsts = [int(np.flatnonzero(one == IDENTITY)[0]) for one in chosen]
    assert set(firsts) == set(found[: chosen.size])
    if count <= 80:
        assert set(chosen) <= set(range(10))
    else:  # the prefix grows until it holds the budget
        assert set(range(10)) < set(chosen)


def test_more_rows_keep_all_of_fewer_under_the_same_identities():
    fewer, more = kept(20, identities=7), kept(30, identities=7)
    np.testing.assert_array_equal(more[:20], fewer)


def test_identities_are_counted():
    found = kept(20, identities=4)
    assert np.unique(IDENTITY[found]).size == 4
    other = kept(20, identities=4, rng=Rng(1, "test"))
    assert set(IDENTITY[other]) != set(IDENTITY[found])
    nearest = search(pool(), TARGET, clusters=6)
    best = kept(4, identities=4, prefer="nearest")
    assert set(IDENTITY[best]) <= set(np.flatnonzero(nearest.clusters == nearest.rank[0]))
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 32 rows"):
        kept(33, identities=4)
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 10 identities"):
        kept(33, identities=11)


def test_rows_farthest_from_kept_ones_are_added():
    found = kept(12, identities=10)
    assert IDENTITY[found[:10]].tolist() == list(range(10))
    away = np.linalg.norm(X[:80, None] - X[found[:10]], axis=2).min(1)
    assert found[10] == away.argmax()


def test_the_released_thinning_begins_at_the_first_row_left():
    found = kept(14, parity="official")
    assert found[10] == 1
    away = np.linalg.norm(X[:80] - X[1], axis=1)
    away[found[:10]] = -1
    assert found[11] == away.argmax()
    with pytest.raises(BudgetUnreachable, match="80 rows"):
        kept(81, parity="official")


def test_order_changes_nothing():
    order = np.random.default_rng(5).permutation(240)
    for options in ({}, {"thin": "random", "identities": 6}, {"clustering": "halves", "prefer": "nearest"}):
        expected, moved = kept(30, **options), pool(order)
        assert set(moved.ids[kept(30, moved, **options)]) == set(500 + expected)


def test_without_identities_every_row_is_one():
    found = kept(25, by="")
    assert found.size == 25 and (IDENTITY[found] < 10).mean() > 0.9


def test_principal_components_are_enough_here():
    found = search(pool(), TARGET, clusters=6, components=2)
    assert set(found.identities[found.found()]) <= set(range(10))
    with pytest.raises(BadInput, match=r"1\.\.4"):
        search(pool(), TARGET, components=5)


def test_small_sets_are_warned_of():
    with pytest.warns(UserWarning, match=r"as few as 4 rows with 4 features"):
        search(pool(), TARGET[:4], clusters=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(pool(), TARGET, clusters=6)


def test_given_clusters_and_several_targets():
    clusters = np.arange(30) // 10
    found = search(pool(), [TARGET[:50], Signals(embedding=TARGET[50:])], given=clusters)
    assert found.rank[0] == 0 and found.best() == 1
    np.testing.assert_allclose(found.distance, search(pool(), TARGET, given=clusters).distance, rtol=1e-9)
    for wrong in (clusters[:5], clusters * 2, clusters + 1, clusters / 2):
        with pytest.raises(BadInput, match="given"):
            search(pool(), TARGET, given=wrong)


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"target": None}, BadInput, "target="),
        ({"target": np.ones((5, 3))}, BadInput, "one encoder"),
        ({"target": np.full((5, D), np.nan)}, NonFinite, "target"),
        ({"clusters": 0}, BadInput, "clusters"),
        ({"clustering": "ward"}, BadInput, "ward"),
        ({"prefer": "far"}, BadInput, "far"),
        ({"thin": "near"}, BadInput, "near"),
        ({"by": "speaker"}, BadInput, "speaker"),
        ({"by": "embedding"}, BadInput, "one identity for each row"),
        ({"identities": 0}, BudgetUnreachable, "0 identities"),
    ],
)
def test_what_cannot_be_used(options, error, match):
    with pytest.raises(error, match=match):
        kept(20, **options)


def test_identities_of_one_kind_and_equal_rows_have_an_answer():
    one = pool(labels=np.zeros(240, dtype=int))
    assert kept(5, one).size == 5
    same = pool(embedding=np.ones((240, D)))
    assert np.unique(kept(50, same)).size == 50
