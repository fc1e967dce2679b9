"""ccs: counts by stratum, the hard cut, constant and negative scores, and what does not change the choice."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.allocate.request import Request
from prunus.allocate.strata import strata as water_filling
from prunus.core.errors import BadInput, BudgetUnreachable, IdMismatch, NonFinite, UnknownName
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.ccs import ccs, cut_count, stratify
from prunus.select.random import random

RNG = Rng(0, "ccs")


def gamma(n=400, sense="hard", seed=0):
    values = np.random.default_rng(seed).gamma(2.0, size=n).astype(np.float32)
    return GroupScore(values, np.arange(n) + 100, sense)


def test_auto_cut_is_the_table_of_the_paper():
    shares = {0.7: 0.0, 0.5: 0.0, 0.3: 0.1, 0.2: 0.2, 0.1: 0.3, 0.05: 0.3, 0.25: 0.15}
    for kept, cut in shares.items():
        assert cut_count(1000, round(1000 * kept)) == pytest.approx(1000 * cut, abs=1)
    assert cut_count(500, 100, 0.1) == 50
    with pytest.raises(BudgetUnreachable, match=r"drops 3 of 10 rows.*nearest reachable: 7 rows, or hard_cut 0\.1"):
        cut_count(10, 9, 0.3)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(-6, 9), min_size=1, max_size=60),
    sense=st.sampled_from(["hard", "easy"]),
    cut=st.sampled_from([0.0, 0.1, 0.3]),
    strata=st.integers(1, 12),
    data=st.data(),
)
def test_counts_by_stratum_and_no_cut_row(values, sense, cut, strata, data):
    n = len(values)
    count = data.draw(st.integers(0, n - int(cut * n)))
    score = GroupScore(np.array(values, dtype=np.float32), np.arange(n), sense)
    chosen = ccs(score, count, hard_cut=cut, strata=strata, rng=RNG)
    assert len(set(chosen.tolist())) == count
    hardness = score.hardness()
    left = np.lexsort((score.ids, hardness))[: n - int(cut * n)]
    assert set(chosen) <= set(left)
    found = stratify(score.values[left], strata)
    sizes = np.bincount(found, minlength=strata)
    kept = np.bincount(found[np.isin(left, chosen)], minlength=strata)
    assert (kept == water_filling(Request.of(sizes, count))).all()
    order = np.array(data.draw(st.permutations(range(n))), dtype=np.int64)
    moved = GroupScore(score.values[order], score.ids[order], sense)
    assert set(moved.ids[ccs(moved, count, hard_cut=cut, strata=strata, rng=RNG)]) == set(score.ids[chosen])


def test_affine_rescaling_changes_nothing():
    score = gamma()
    scaled = GroupScore(score.values * 4 - 16, score.ids, "hard")
    assert (stratify(score.values, 50) == stratify(scaled.values.astype(np.float64), 50)).mean() > 0.99
    exact = GroupScore(np.arange(400.0), score.ids, "hard")
    moved = GroupScore(np.arange(400.0) * 4 - 16, score.ids, "hard")
    assert (ccs(exact, 40, rng=RNG) == ccs(moved, 40, rng=RNG)).all()


def test_one_stratum_and_constant_scores_are_random_sampling():
    score = gamma()
    expected = random(score, 80, rng=RNG)
    assert (ccs(score, 80, hard_cut=0.0, strata=1, rng=RNG) == expected).all()
    constant = GroupScore(np.full(400, 0.7, dtype=np.float32), score.ids, "hard")
    assert (ccs(constant, 80, hard_cut=0.0, rng=RNG) == expected).all()


def test_negative_scores_lose_no_row_but_do_as_released():
    values = np.linspace(-2.0, 0.0, 100, dtype=np.float32)
    score = GroupScore(values, np.arange(100), "hard")
    assert ccs(score, 100, hard_cut=0.0, rng=RNG).size == 100
    released = ccs(GroupScore(values - 1, np.arange(100), "hard"), 100, hard_cut=0.0, parity="official", rng=RNG)
    assert released.size < 100


def test_easy_and_hard_readings_are_mirrors():
    score = gamma()
    mirrored = GroupScore(-score.values, score.ids, "easy")
    cut = int(0.3 * 400)
    hardest = set(np.argsort(-score.values)[:cut])
    for reading in (score, mirrored):
        assert not hardest & set(ccs(reading, 40, hard_cut=0.3, rng=RNG))


def test_the_cut_may_go_by_another_score():
    score, other = gamma(), gamma(seed=1, sense="easy")
    order = np.random.default_rng(2).permutation(400)
    shuffled = GroupScore(other.values[order], other.ids[order], "easy")
    chosen = ccs(score, 40, cut_score=shuffled, hard_cut=0.3, rng=RNG)
    assert not set(np.argsort(other.values)[:120]) & set(chosen)
    assert (chosen == ccs(score, 40, cut_score=other, hard_cut=0.3, rng=RNG)).all()
    few = GroupScore(score.values[:200], score.ids[:200], "hard")  # one class, or all rows but the banned ones
    assert ccs(few, 20, cut_score=other, hard_cut=0.3, rng=RNG).size == 20
    with pytest.raises(IdMismatch):
        ccs(score, 40, cut_score=GroupScore(other.values, other.ids + 1, "easy"), rng=RNG)


def test_clip_spreads_a_heavy_tail_over_the_strata():
    values = np.r_[np.linspace(0, 1, 99), 1000.0]
    assert (np.bincount(stratify(values, 50), minlength=50) > 0).sum() == 2
    assert (np.bincount(stratify(values, 50, 0.02), minlength=50) > 0).sum() == 50


def test_within_class_runs_in_every_label():
    class Labelled:
        def __init__(self, labels):
            self.labels = labels

        def take(self, positions):
            return Labelled(self.labels[positions])

    labels = np.repeat([3, 5], [300, 100])
    base = gamma()
    score = GroupScore(base.values, base.ids, "hard", Labelled(labels))
    chosen = ccs(score, 40, within="class", rng=RNG)
    assert [int((labels[chosen] == label).sum()) for label in (3, 5)] == [30, 10]


def test_the_cut_may_be_named():
    margins = gamma(seed=1, sense="easy")
    signals = SimpleNamespace(aum=torch.from_numpy(margins.values), seen=torch.ones(400))
    score = GroupScore(gamma().values, gamma().ids, "hard", signals)
    chosen = ccs(score, 40, cut_score="aum", rng=RNG)
    assert (chosen == ccs(score, 40, cut_score=margins, rng=RNG)).all()
    with pytest.raises(BadInput, match="none came with the score"):
        ccs(gamma(), 40, cut_score="aum", rng=RNG)
    with pytest.raises(UnknownName, match="aum"):
        ccs(score, 40, cut_score="aumm", rng=RNG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strata": 0}, "strata"),
        ({"clip": 0.5}, "clip"),
        ({"hard_cut": 1.0}, "hard_cut"),
        ({"hard_cut": "none"}, "auto"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(BadInput, match=message):
        ccs(gamma(), 40, rng=RNG, **options)


def test_refusals():
    score = gamma()
    with pytest.raises(BadInput, match="not what is hard"):
        ccs(GroupScore(score.values, score.ids, "keep"), 40, rng=RNG)
    with pytest.raises(NonFinite):
        ccs(GroupScore(np.where(score.values > 5, np.nan, score.values), score.ids, "hard"), 40, rng=RNG)
    with pytest.raises(BudgetUnreachable, match="hard_cut"):
        ccs(score, 390, hard_cut=0.1, rng=RNG)
    assert ccs(score, 0, rng=RNG).size == 0
    assert ccs(GroupScore(score.values[:0], score.ids[:0], "hard"), 0, rng=RNG).size == 0
