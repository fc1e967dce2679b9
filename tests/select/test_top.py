"""top and random: directions, ties, offset, labels, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.random import random
from prunus.select.top import top

VALUES = np.array([0.1, 0.9, 0.5, 0.5, 0.3], dtype=np.float32)
IDS = np.array([10, 11, 13, 12, 14])


class Labelled:
    """Signals as selectors see them."""

    def __init__(self, labels):
        self.labels = np.asarray(labels)

    def take(self, positions):
        return Labelled(self.labels[positions])


def kept(score, count, **options):
    return score.ids[top(score, count, **options)].tolist()


@pytest.mark.filterwarnings("ignore:below about 30")
def test_each_sense_has_its_own_direction():
    assert kept(GroupScore(VALUES, IDS, "keep"), 2) == [11, 12]
    assert kept(GroupScore(VALUES, IDS, "hard"), 2) == [11, 12]
    assert kept(GroupScore(VALUES, IDS, "easy"), 2) == [10, 14]
    assert kept(GroupScore(VALUES, IDS, "hard"), 2, keep="easiest") == [10, 14]
    assert kept(GroupScore(VALUES, IDS, "easy"), 2, keep="easiest") == [11, 12]


def test_ties_go_to_the_lower_id_from_both_ends():
    score = GroupScore(np.zeros(4), np.array([7, 3, 9, 5]), "hard")
    assert kept(score, 2) == [3, 5]
    assert kept(score, 2, keep="easiest") == [3, 5]
    text = GroupScore(np.zeros(3), np.array(["b", "a", "c"]), "hard")
    assert kept(text, 1, keep="easiest") == ["a"]


def test_offset_passes_over_the_start_of_the_ranking():
    score = GroupScore(VALUES, IDS, "hard")
    assert kept(score, 2, offset=1) == [12, 13]
    assert kept(score, 3, keep="easiest", offset=1) == [14, 12, 13]
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 3 units"):
        top(score, 4, offset=2)
    with pytest.raises(BudgetUnreachable):
        top(score, 4, offset=-1)


def test_within_class_keeps_the_share_of_every_label():
    labels = [0, 0, 0, 0, 1, 1, 2, 2]
    values = np.array([9, 8, 7, 6, 5, 4, 3, 2.0])
    score = GroupScore(values, np.arange(8), "hard", Labelled(labels))
    assert sorted(kept(score, 4, within="class")) == [0, 1, 4, 6]
    assert sorted(kept(score, 4)) == [0, 1, 2, 3]
    with pytest.raises(BadInput, match="no labels"):
        top(GroupScore(values, np.arange(8), "hard"), 4, within="class")
    with pytest.raises(BadInput, match="one number for each"):
        top(GroupScore(values, np.arange(8), "hard", Labelled(np.zeros((8, 2)))), 4, within="class")


def test_refusals():
    score = GroupScore(VALUES, IDS, "keep")
    with pytest.raises(BadInput, match="needs a hard or easy score"):
        top(score, 2, keep="easiest")
    with pytest.raises(BadInput, match="can't keep 6 of 5"):
        top(score, 6)
    with pytest.raises(NonFinite, match="11"):
        top(GroupScore(np.where(VALUES > 0.8, np.nan, VALUES), IDS, "hard"), 3)


def test_few_hardest_rows_are_warned_about():
    score = GroupScore(np.arange(20.0), np.arange(20), "hard")
    with pytest.warns(UserWarning, match="ccs"):
        top(score, 2)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    sense=st.sampled_from(["keep", "hard", "easy"]),
    data=st.data(),
)
@pytest.mark.filterwarnings("ignore:below about 30")
def test_top_is_nested_distinct_and_follows_its_rows(values, sense, data):
    n = len(values)
    count = data.draw(st.integers(0, n))
    score = GroupScore(np.array(values, dtype=np.float32), np.arange(n) * 3, sense)
    chosen = top(score, count)
    assert len(set(chosen.tolist())) == count
    assert set(chosen) <= set(top(score, min(count + 1, n)))
    order = np.array(data.draw(st.permutations(range(n))), dtype=np.int64)
    moved = GroupScore(score.values[order], score.ids[order], sense)
    assert moved.ids[top(moved, count)].tolist() == score.ids[chosen].tolist()


def test_random_is_by_id_and_nested():
    ids = np.array([f"img/{i}.png" for i in range(60)])
    score = GroupScore(np.zeros(60), ids, "hard")
    small = set(ids[random(score, 10, rng=Rng(0, "x"))])
    large = set(ids[random(score, 30, rng=Rng(0, "x"))])
    back = GroupScore(np.zeros(60), ids[::-1], "hard")
    assert small < large
    assert set(back.ids[random(back, 10, rng=Rng(0, "x"))]) == small
    assert set(ids[random(score, 10, rng=Rng(1, "x"))]) != small


def test_random_balanced_over_labels():
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    score = GroupScore(np.zeros(60), np.arange(60), "keep", Labelled(labels))
    chosen = random(score, 30, within="class", rng=Rng(0, "x"))
    assert np.bincount(labels[chosen]).tolist() == [15, 10, 5]
