"""D2: as a plain loop over a dense graph, nested, spread out, with a cut; refusals."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.score import GroupScore
from prunus.select.d2 import d2, importance
from prunus.signals.rowset import Signals


def rows(n=80, d=4, seed=0, sense="hard", order=None, x=None):
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((n, d))
    made = drawn if x is None else x
    values, labels = rng.random(n), np.arange(n) % 3
    at = np.arange(n) if order is None else order
    ids = 500 + at
    return GroupScore(values[at], ids, sense, Signals(ids, embedding=made[at], labels=labels[at], aum=-values[at]))


def dense(score, count, k, forward, reverse):
    """The published algorithm, with n x n arrays."""
    x = np.asarray(score.signals.embedding, dtype=np.float64)
    squares = ((x[:, None] - x) ** 2).sum(2)
    np.fill_diagonal(squares, np.inf)
    near = np.argsort(squares, axis=1, kind="stable")[:, :k]
    link = np.zeros(squares.shape, dtype=bool)
    np.put_along_axis(link, near, True, 1)
    scale = np.median(np.take_along_axis(squares, near, 1))
    link |= link.T
    np.fill_diagonal(squares, 0)
    worth = importance(score)
    current = worth + np.where(link, np.exp(-forward * squares / scale), 0) @ worth
    picked = []
    for _ in range(count):
        current[picked] = -np.inf
        row = int(current.argmax())
        picked.append(row)
        away = np.exp(-reverse * squares[row] / scale)
        current -= np.where(link[row], away * max(current[row], 0), 0)
    return picked


@pytest.mark.parametrize(("forward", "reverse"), [(1.0, 1.0), (0.5, 0.0), (0.0, 3.0)])
@pytest.mark.parametrize("sense", ["hard", "easy", "keep"])
def test_as_a_plain_loop(sense, forward, reverse):
    score = rows(sense=sense)
    found = d2(score, 50, neighbours=5, forward=forward, reverse=reverse)
    assert found.tolist() == dense(score, 50, 5, forward, reverse)


def test_nested_and_in_any_order():
    score, order = rows(), np.random.default_rng(3).permutation(80)
    full = d2(score, 60)
    assert d2(score, 20).tolist() == full[:20].tolist()
    moved = rows(order=order)
    assert moved.ids[d2(moved, 60)].tolist() == score.ids[full].tolist()


def test_scale_of_the_embedding_does_not_matter():
    score = rows()
    larger = rows(x=1024 * np.asarray(score.signals.embedding))
    assert d2(larger, 40).tolist() == d2(score, 40).tolist()


def test_neighbours_of_what_is_taken_wait():
    x = np.concatenate([np.zeros((10, 2)), 10 + np.zeros((10, 2))]) + 0.01 * np.arange(20)[:, None]
    score = GroupScore(
        np.r_[np.full(10, 2.0), np.full(10, 1.9)], np.arange(20), "hard", Signals(np.arange(20), embedding=x)
    )
    assert sorted((d2(score, 2, neighbours=9, reverse=0.0) // 10).tolist()) == [0, 1]
    assert (d2(score, 2, neighbours=9, forward=0.0, reverse=50.0) // 10).tolist() == [0, 0]


def test_equal_rows_and_equal_scores_go_by_id():
    score = GroupScore(
        np.ones(9), np.arange(9)[::-1].copy(), "hard", Signals(np.arange(9)[::-1].copy(), embedding=np.ones((9, 2)))
    )
    assert score.ids[d2(score, 1, neighbours=3)].tolist() == [0]
    assert np.unique(d2(score, 9, neighbours=3)).size == 9


@pytest.mark.parametrize("within", ["all", "class"])
def test_cut(within):
    score = rows()
    kept = d2(score, 30, hard_cut=0.25, within=within)
    dropped = np.argsort(-score.values)[:20]
    if within == "all":
        assert not np.isin(kept, dropped).any()
    by_aum = d2(score, 30, hard_cut=0.25, cut_score="aum", within=within)
    np.testing.assert_array_equal(by_aum, kept)
    labels = np.asarray(score.signals.labels)
    assert within == "all" or np.bincount(labels[kept]).tolist() == [10, 10, 10]
    with pytest.raises(BudgetUnreachable):
        d2(score, 70, hard_cut=0.25, within=within)


def test_refusals():
    score = rows()
    for wrong in ({"neighbours": 0}, {"forward": -1.0}, {"reverse": float("nan")}):
        with pytest.raises(BadInput, match="d2 takes"):
            d2(score, 10, **wrong)
    with pytest.raises(BadInput, match="embedding"):
        d2(GroupScore(score.values, score.ids, "hard"), 10)
    x = np.asarray(score.signals.embedding).copy()
    x[5, 0] = np.nan
    with pytest.raises(NonFinite):
        d2(GroupScore(score.values, score.ids, "hard", type("S", (), {"embedding": x})()), 10)
