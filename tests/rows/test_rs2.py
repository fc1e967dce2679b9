"""RS2: sizes, coverage of passes, counts of visits, balance, resuming, streams."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from prunus.core.errors import BadInput, BudgetUnreachable, IdMismatch
from prunus.rows.rs2 import RS2

KINDS = ({}, {"replace": True}, {"tail": "drop"}, {"tail": "official"}, {"parity": "official"})


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 50), data=st.data())
def test_every_epoch_has_distinct_rows(n, seed, data):
    m = data.draw(st.integers(1, n))
    kind = data.draw(st.sampled_from(KINDS))
    dynamic = RS2(np.arange(n) + 5, count=m, seed=seed, **kind)
    for t in range(6):
        ids = dynamic.epoch(t).ids
        short = dynamic.tail == "official" and not dynamic.replace
        assert ids.size == m or (short and ids.size == m - 1)
        assert np.unique(ids).size == ids.size
        assert set(ids) <= set(range(5, n + 5))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 40), seed=st.integers(0, 50), data=st.data())
def test_wrap_visits_every_row_once_a_pass(n, seed, data):
    m = data.draw(st.integers(1, n))
    dynamic = RS2(np.arange(n), count=m, seed=seed)
    rounds = math.ceil(3 * n / m)
    visits = np.zeros(n, dtype=int)
    for t in range(rounds):
        visits[dynamic.epoch(t).ids] += 1
        assert visits.max() - visits.min() <= 2  # a row skipped by a wrap may lag for one epoch
    assert abs(visits.sum() / n - 3) < 1 + m / n
    if n % m == 0:
        assert (visits == 3).all()


def test_a_divisible_pass_is_the_whole_data_once():
    dynamic = RS2(np.arange(60), fraction=0.2)
    first = np.concatenate([dynamic.epoch(t).ids for t in range(5)])
    second = np.concatenate([dynamic.epoch(t).ids for t in range(5, 10)])
    assert sorted(first) == sorted(second) == list(range(60))
    assert first.tolist() != second.tolist()


def test_drop_throws_the_tail_away():
    dynamic = RS2(np.arange(10), count=4, tail="drop")
    pairs = [np.concatenate([dynamic.epoch(t).ids, dynamic.epoch(t + 1).ids]) for t in (0, 2)]
    assert all(np.unique(pair).size == 8 for pair in pairs)


def test_visits_with_replacement_are_binomial():
    dynamic = RS2(np.arange(50), fraction=0.2, replace=True, seed=1)
    visits = np.zeros(50)
    for t in range(400):
        visits[dynamic.epoch(t).ids] += 1
    # Rows of one epoch are distinct, which shrinks the variance by 1 - m / n.
    assert chisquare(visits).statistic / (1 - 0.2) < 80
    assert visits.sum() == 4000


def test_same_seed_same_rows_in_any_order_of_asking():
    for kind in KINDS:
        one, other = RS2(np.arange(30), count=7, **kind), RS2(np.arange(30), count=7, **kind)
        forward = [one.epoch(t).ids.tolist() for t in range(9)]
        assert [other.epoch(t).ids.tolist() for t in (8, 3, 3, 0)] == [forward[8], forward[3], forward[3], forward[0]]
        assert [RS2(np.arange(30), count=7, seed=1, **kind).epoch(t).ids.tolist() for t in range(9)] != forward


def test_rows_do_not_depend_on_the_order_of_ids():
    ids = np.array([f"{i:03d}.png" for i in range(40)])
    one, other = RS2(ids, fraction=0.3), RS2(ids[::-1], fraction=0.3)
    assert all(one.epoch(t).ids.tolist() == other.epoch(t).ids.tolist() for t in range(6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [0, 1, 4, 5])
def test_resuming_in_mid_pass(kind, stop):
    whole = RS2(np.arange(31), count=8, **kind)
    expected = [whole.epoch(t).ids.tolist() for t in range(10)]
    first = RS2(np.arange(31), count=8, **kind)
    for t in range(stop):
        first.epoch(t)
    second = RS2(np.arange(31), count=8, **kind)
    second.load_state_dict(first.state_dict())
    assert [second.epoch(t).ids.tolist() for t in range(stop, 10)] == expected[stop:]


def test_states_of_other_rows_or_options_are_refused():
    state = RS2(np.arange(10), count=3).state_dict()
    with pytest.raises(IdMismatch, match="other rows"):
        RS2(np.arange(11), count=3).load_state_dict(state)
    with pytest.raises(BadInput, match="saved with"):
        RS2(np.arange(10), count=4).load_state_dict(state)
    with pytest.raises(BadInput, match="schema 1, not 9"):
        RS2(np.arange(10), count=3).load_state_dict(state | {"schema": 9})


@pytest.mark.parametrize("replace", [True, False])
def test_balance_is_exact_and_loses_no_label(replace):
    labels = np.repeat([0, 1, 2], [60, 30, 2])
    dynamic = RS2(np.arange(92), fraction=0.1, balance=True, labels=labels, replace=replace)
    assert dynamic.count == 9
    for t in range(12):
        assert np.bincount(labels[dynamic.epoch(t).ids]).tolist() in ([6, 2, 1], [5, 3, 1])
    first = np.concatenate([dynamic.epoch(t).ids for t in range(2)])
    assert replace or set(first[labels[first] == 2]) == {90, 91}


def test_all_rows_is_shuffled_training():
    dynamic = RS2(np.arange(20), fraction=1.0)
    assert sorted(dynamic.epoch(0).ids) == sorted(dynamic.epoch(1).ids) == list(range(20))
    assert dynamic.epoch(0).ids.tolist() != dynamic.epoch(1).ids.tolist()


@pytest.mark.parametrize("replace", [True, False])
def test_stream_mask(replace):
    dynamic = RS2(np.arange(1000), fraction=0.1, replace=replace)
    masks = np.stack([dynamic.stream_mask(np.arange(1000), t) for t in range(10)])
    assert 600 < masks.sum() < 1400
    assert (masks[:, ::-1] == [dynamic.stream_mask(np.arange(1000)[::-1], t) for t in range(10)]).all()
    assert (masks.sum(0) == 1).all() != replace


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "fraction"),
        ({"fraction": 1.2}, "fraction"),
        ({"tail": "cut"}, "tail is"),
        ({"balance": True}, "one label for each"),
        ({"balance": True, "labels": np.zeros(10), "parity": "official"}, "no balance"),
        (
            {"balance": True, "labels": np.zeros(10), "permutations": lambda k, n: np.arange(n)},
            "every label has its own",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(BadInput, match=message):
        RS2(np.arange(10), **options)


def test_refusals():
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 1 rows"):
        RS2(np.arange(4), fraction=0.1)
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 4 rows"):
        RS2(np.arange(4), count=5)
    with pytest.raises(BadInput, match="unique"):
        RS2(np.array([1, 1]))
    with pytest.raises(BadInput, match="not empty"):
        RS2(np.array([]))
    with pytest.raises(BadInput, match=r"each of 0..3 once"):
        RS2(np.arange(4), count=2, permutations=lambda k, n: np.zeros(n)).epoch(0)
    with pytest.raises(BadInput, match="count from 0"):
        RS2(np.arange(4), count=2).epoch(-1)
