"""Sparse uniform replay: every distance is covered, counts are exact, what may not matter does not, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput, NonFinite
from prunus.core.score import GroupScore
from prunus.select.sur import sur
from prunus.signals.rowset import Signals

N = 61
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, 6)) + 1
STABLE = RNG.random(N)
LABELS = np.arange(N) % 3 // 2  # two thirds and one third


def rows(x=X, stability=STABLE, order=None, **more):
    at = np.arange(N) if order is None else order
    fields = {"embedding": x[at], "labels": LABELS[at]} | ({} if stability is None else {"stability": stability[at]})
    return GroupScore(RNG.permutation(N).astype(float), 100 + at, "hard", Signals(100 + at, **(fields | more)), "rows")


def chunks(x, count):
    """Rows by distance to the mean, cut at round(2 j n / m)."""
    order = np.argsort(np.linalg.norm(x - x.mean(0), axis=1), kind="stable")
    half = count // 2
    bounds = [round(j * len(order) / half) for j in range(half + 1)]
    return [order[low:high] for low, high in zip(bounds, bounds[1:])]


@pytest.mark.parametrize("stability", [STABLE, None])
@pytest.mark.parametrize("count", range(N + 1))
def test_counts_are_exact_and_rows_differ(count, stability):
    for rule in ("sparse", "center", "moderate", "hard"):
        found = sur(rows(stability=stability), count, rule=rule, within="all")
        assert found.size == np.unique(found).size == count


@pytest.mark.parametrize("count", [2, 7, 20, 60, 61])
def test_a_pair_from_every_distance_with_its_most_stable_row(count):
    found = sur(rows(), count, within="all")
    for number, chunk in enumerate(chunks(X, count)):
        anchor, partner = found[2 * number : 2 * number + 2]
        assert anchor == chunk[STABLE[chunk].argmax()] and partner in chunk
        unit = X[chunk] / np.linalg.norm(X[chunk], axis=1, keepdims=True)
        others = np.where(chunk == anchor, np.inf, unit @ X[anchor])
        assert partner == chunk[others.argmin()]
    if count % 2:
        rest = np.setdiff1d(np.arange(N), found[:-1])
        assert found[-1] == rest[STABLE[rest].argmax()]


def test_one_row_is_the_most_stable_and_without_stability_the_middle_one():
    assert sur(rows(), 1, within="all").tolist() == [int(STABLE.argmax())]
    middle = np.argsort(np.linalg.norm(X - X.mean(0), axis=1))[N // 2]
    assert sur(rows(stability=None), 1, within="all").tolist() == [int(middle)]


def test_without_stability_partners_are_compared_around_the_centre():
    found = sur(rows(stability=None), 6, within="all")
    for number, chunk in enumerate(chunks(X, 6)):
        anchor = chunk[chunk.size // 2]
        centred = X[chunk] - X.mean(0)
        cosine = centred @ (X[anchor] - X.mean(0)) / np.linalg.norm(centred, axis=1)
        assert found[2 * number : 2 * number + 2].tolist() == [anchor, chunk[cosine.argmin()]]


def test_rotation_scale_and_order_change_nothing():
    turn = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
    for stability in (STABLE, None):
        expected = sur(rows(stability=stability), 17, within="all")
        for moved in (X @ turn, 8 * X, 2.0**-60 * X):
            np.testing.assert_array_equal(sur(rows(moved, stability), 17, within="all"), expected)
        order = RNG.permutation(N)
        np.testing.assert_array_equal(order[sur(rows(X, stability, order), 17, within="all")], expected)
    np.testing.assert_array_equal(
        sur(rows(2.0**60 * X), 17, within="all", centre=2.0**60 * X.mean(0)), sur(rows(), 17, within="all")
    )


def test_the_other_rules():
    away = np.argsort(np.linalg.norm(X - X.mean(0), axis=1))
    np.testing.assert_array_equal(sur(rows(), 9, rule="center", within="all"), away[:9])
    assert sur(rows(), 3, rule="moderate", within="all").tolist() == [*away[:2], away[N // 2]]
    score = rows()
    hard = sur(score, 4, rule="hard", within="all")
    assert hard[:2].tolist() == away[:2].tolist()
    assert hard[2:].tolist() == [one for one in score.keep_order() if one not in away[:2]][:2]
    dot = np.argsort(-(X @ X.mean(0)))
    np.testing.assert_array_equal(sur(rows(), 9, rule="center", key="dot", within="all"), dot[:9])


def test_every_label_keeps_its_share():
    found = sur(rows(), 30)
    assert np.bincount(LABELS[found]).tolist() == [20, 10] or np.bincount(LABELS[found]).tolist() == [21, 9]
    zeros = np.flatnonzero(LABELS == 0)
    alone = GroupScore(np.zeros(zeros.size), zeros, "hard", Signals(zeros, embedding=X[zeros], stability=STABLE[zeros]))
    same = sur(alone, int((LABELS[found] == 0).sum()), within="all")
    assert set(zeros[same]) == set(found[LABELS[found] == 0])


def test_zero_rows_and_equal_rows_have_an_answer():
    x = X.copy()
    x[5] = 0
    assert np.unique(sur(rows(x), 20, within="all")).size == 20
    same = np.ones_like(X)
    found = sur(rows(same, np.ones(N)), 6, within="all")
    assert found.tolist() == [0, 1, 20, 21, 41, 42]  # ties by id


def test_released_picks_may_be_fewer_and_repeat():
    assert sur(rows(), 40, within="all", parity="official").size == 40
    few = Signals(np.arange(60), embedding=X[:60])
    assert sur(GroupScore(np.zeros(60), np.arange(60), "hard", few), 20, within="all", parity="official").size == 18
    near_first = GroupScore(X @ X.mean(0), np.arange(N), "hard", Signals(embedding=X))
    twice = sur(near_first, 40, rule="hard", within="all", parity="official")
    assert np.unique(twice).size < twice.size == 20
    with pytest.raises(BadInput, match="keep 2 or more"):
        sur(rows(), 1, within="all", parity="official")


@pytest.mark.parametrize(
    "more, options, error, match",
    [
        ({"stability": np.where(np.arange(N) == 4, np.nan, 1)}, {}, NonFinite, "104"),
        ({"embedding": np.full((N, 6), np.inf)}, {}, NonFinite, "100"),
        ({"embedding": X[:, 0]}, {"within": "all"}, BadInput, "one vector"),
        ({"stability": X}, {}, BadInput, "one number for each row"),
        ({}, {"centre": X.mean(0)}, BadInput, "within='all'"),
        ({}, {"centre": np.ones(5), "within": "all"}, BadInput, "6 finite numbers"),
        ({}, {"rule": "far"}, BadInput, "far"),
        ({}, {"key": "cosine"}, BadInput, "cosine"),
    ],
)
def test_what_cannot_be_used(more, options, error, match):
    given = rows()
    broken = Signals._of(given.ids, {n: (v[0],) for n, v in given.signals._parts.items()}, {})
    for name, value in more.items():
        broken._parts[name] = (__import__("torch").as_tensor(value),)
    with pytest.raises(error, match=match):
        sur(GroupScore(given.values, given.ids, "hard", broken, "rows"), 10, **options)


def test_no_labels_and_no_embedding():
    bare = Signals(np.arange(5), embedding=X[:5])
    with pytest.raises(BadInput, match="labels"):
        sur(GroupScore(np.zeros(5), np.arange(5), "hard", bare), 2)
    with pytest.raises(BadInput, match="embedding"):
        sur(GroupScore(np.zeros(5), np.arange(5), "hard", Signals(labels=np.zeros(5, int))), 2)
