"""semdedup, dbp and balanced: nestedness, guarantees, witnesses, exact counts, order, refusals."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths import near_duplicates as near
from prunus.maths.spherical import Clusters, unit
from prunus.select.balanced import balanced
from prunus.select.dbp import allocation, dbp
from prunus.select.semdedup import duplicates, semdedup
from prunus.select.top import top
from prunus.signals.rowset import Signals

RNG = Rng(0, "test")
GRID = np.array([0.0, 0.02, 0.1, 0.3])


def rows(n=150, d=5, copies=50, seed=0, order=None):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    x[-copies:] = x[:copies] + 0.03 * rng.standard_normal((copies, d))
    x[3] = x[4]  # an exact duplicate
    at = np.arange(n) if order is None else order
    labels = (np.arange(n) % 7 == 0) + 2 * (np.arange(n) % 31 == 0)
    return GroupScore(
        rng.random(n)[at], (1000 + np.arange(n))[at], "hard", Signals(1000 + at, embedding=x[at], labels=labels[at])
    )


@pytest.mark.parametrize("select", [semdedup, dbp])
@pytest.mark.parametrize("block", [1 << 28, 3000])
def test_order_and_blocks_change_nothing(select, block, monkeypatch):
    expected = set(rows().ids[select(rows(), 60, clusters=3, rng=RNG)])
    monkeypatch.setattr(near, "RAM", block)
    order = np.random.default_rng(4).permutation(150)
    moved = rows(order=order)
    assert set(moved.ids[select(moved, 60, clusters=3, rng=RNG)]) == expected


@pytest.mark.parametrize("rule", ["official", "components"])
def test_nested_in_eps_and_in_the_count(rule):
    score = rows()
    found = duplicates(score, rule=rule, clusters=2, rng=RNG)
    gone = [found.removed(float(eps)) for eps in GRID]
    assert all((a <= b).all() for a, b in zip(gone, gone[1:]))
    assert found.curve(GRID).tolist() == [int((~g).sum()) for g in gone]
    counts = [set(semdedup(score, count, rule=rule, clusters=2, rng=RNG)) for count in (20, 75, 110)]
    assert counts[0] < counts[1] < counts[2]
    eps = found.eps_for(110)
    assert int((~found.removed(eps)).sum()) <= 110


def test_exact_duplicates_leave_one():
    score = rows()
    kept = semdedup(score, 149, clusters=1, rng=RNG)
    assert len({3, 4} & set(kept.tolist())) == 1
    found = duplicates(score, clusters=1, rng=RNG)
    assert found.removed(1e-6).sum() == 1
    gone, stays = found.pairs(1e-6)[0]
    assert {int(gone), int(stays)} == {3, 4}


@pytest.mark.parametrize("eps", [0.02, 0.3])
def test_greedy_guarantee_and_witnesses(eps):
    score = rows()
    found = duplicates(score, rule="greedy", eps=eps, clusters=2, rng=RNG)
    gone, x = found.removed(eps), unit(np.asarray(score.signals.embedding))
    for lost, stays in found.pairs(eps):
        assert gone[lost] and not gone[stays] and x[lost] @ x[stays] > 1 - eps - 1e-8
    for cluster in range(2):
        kept = x[~gone & (found.clusters.assigned == cluster)]
        assert np.triu(kept @ kept.T, 1).max() <= 1 - eps + 1e-8
    official = duplicates(score, clusters=2, rng=RNG)
    assert (official.removed(eps) >= gone).all()
    assert not gone[official.earlier.witness[gone]].all() or gone.sum() < 2
    assert set(semdedup(score, 90, rule="greedy", clusters=2, rng=RNG)).__len__() == 90


def test_one_cluster_is_brute_force_and_components_are_components():
    from scipy.sparse.csgraph import connected_components

    score, eps = rows(), 0.1
    x = unit(np.asarray(score.signals.embedding))
    cosines = np.round(x @ x.T, near.DIGITS)
    found = duplicates(score, keep="score", clusters=1, rng=RNG)
    place = np.argsort(found.order)
    before = place[None] < place[:, None]
    np.testing.assert_array_equal(found.order, score.keep_order())
    np.testing.assert_allclose(found.earlier.similarity, np.where(before, cosines, 0).max(1).clip(0), atol=1e-8)
    chained = duplicates(score, rule="components", clusters=1, rng=RNG)
    number = connected_components(cosines > 1 - eps)[0]
    assert int((~chained.removed(eps)).sum()) == number
    pairs = chained.pairs(eps)
    assert not chained.removed(eps)[pairs[:, 1]].any()


@pytest.mark.parametrize("count", [1, 2, 60, 149, 150])
@pytest.mark.parametrize("keep", ["hard", "easy", "random"])
def test_dbp_keeps_the_count(count, keep):
    kept = dbp(rows(), count, clusters=9, keep=keep, rng=RNG)
    assert np.unique(kept).size == kept.size == count


def test_dbp_allocation():
    score = rows()
    x = np.asarray(score.signals.embedding)
    made = Clusters.around(x, x[:9])
    found = allocation(made, 60, temperature=0.02, floor=2)
    assert found.counts.sum() == 60
    assert (found.floors <= found.counts).all() and (found.counts <= made.sizes).all()
    free = (found.exact > found.floors + 1e-9) & (found.exact < made.sizes - 1e-9)
    shift = (60 * found.share - found.exact)[free]
    np.testing.assert_allclose(shift, shift[0], atol=1e-9)
    equal = allocation(made, 45, temperature=1e9).exact
    np.testing.assert_allclose(equal, np.minimum(made.sizes, equal.max()), atol=1e-6)
    assert (allocation(made, 150).counts == made.sizes).all()
    lonely = allocation(Clusters.around(x, x[:1]), 10)
    assert lonely.counts.tolist() == [10] and np.isnan(lonely.inter).all()


def test_dbp_deduplicates_first():
    score = rows()
    kept = dbp(score, 80, dedup=0.02, clusters=5, rng=RNG)
    gone = duplicates(score, rule="greedy", eps=0.02, rng=RNG.child("dedup")).removed(0.02)
    assert gone.sum() > 40 and not gone[kept].any() and kept.size == 80
    with pytest.raises(BudgetUnreachable, match="rows are left, not 140"):
        dbp(score, 140, dedup=0.02, rng=RNG)
    with pytest.raises(BudgetUnreachable, match="floors of 9 clusters"):
        dbp(score, 12, clusters=9, floor=4, rng=RNG)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balanced_floors(balance):
    score = rows()
    labels, count = np.asarray(score.signals.labels), 61
    kept = balanced(score, count, balance=balance, keep="hardest")
    names, sizes = np.unique(labels, return_counts=True)
    floor = int(balance * count / names.size)
    assert np.unique(kept).size == count
    assert all((labels[kept] == name).sum() >= min(floor, size) for name, size in zip(names, sizes))
    if balance == 0:
        np.testing.assert_array_equal(kept, top(score, count))
    moved = rows(order=np.arange(150)[::-1])
    reordered = GroupScore(score.values[::-1], score.ids[::-1], "hard", moved.signals)
    assert set(reordered.ids[balanced(reordered, count, balance=balance)]) == set(score.ids[kept])


def test_balanced_turns_round_for_few_rows_and_says_so():
    score = rows()
    with pytest.warns(UserWarning, match="the easiest stay"):
        few = balanced(score, 15, balance=0.0)
    np.testing.assert_array_equal(few, top(score, 15, keep="easiest"))
    np.testing.assert_array_equal(balanced(score, 60, balance=0.0), top(score, 60))


@pytest.mark.parametrize("select", [semdedup, dbp])
def test_refusals(select):
    score = rows()
    x = np.asarray(score.signals.embedding).copy()
    with pytest.raises(BadInput, match="none came with the score"):
        select(GroupScore(score.values, score.ids, "hard"), 60, rng=RNG)
    x[8] = 0
    with pytest.raises(BadInput, match="1008"):
        select(GroupScore(score.values, score.ids, "hard", SimpleNamespace(embedding=x)), 60, rng=RNG)
    x[8] = np.nan
    with pytest.raises(NonFinite, match="1008"):
        select(GroupScore(score.values, score.ids, "hard", SimpleNamespace(embedding=x)), 60, rng=RNG)
    with pytest.raises(BadInput, match="keep is"):
        select(score, 60, keep="best", rng=RNG)


def test_eps_is_refused_where_it_can_not_hold():
    score = rows()
    with pytest.raises(BudgetUnreachable, match="nearest reachable"):
        semdedup(score, 149, eps=0.1, clusters=1, rng=RNG)
    with pytest.raises(BadInput, match="eps is"):
        semdedup(score, 60, eps=1.5, rng=RNG)
    with pytest.raises(BadInput, match="rule"):
        semdedup(score, 60, rule="best", rng=RNG)
    with pytest.raises(BadInput, match="greedy"):
        duplicates(score, rule="greedy", rng=RNG)
