"""Chains of selectors: what narrows, by how much, whose options, and how they are reached by name."""

from __future__ import annotations

import numpy as np
import pytest

import prunus as px
from prunus.core.chain import find_selector
from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.run.catalogue import method_facts
from prunus.select.ccs import ccs
from prunus.select.random import random
from prunus.select.semdedup import duplicates, semdedup
from prunus.select.top import top
from prunus.signals.rowset import Signals

pytestmark = pytest.mark.filterwarnings("ignore:below about")
RNG = Rng(3, "test")


def rows(n=90, copies=30):
    draw = np.random.default_rng(0)
    x = draw.standard_normal((n, 5))
    x[-copies:] = x[:copies] + 0.01 * draw.standard_normal((copies, 5))
    labels = np.arange(n) % 3
    return GroupScore(
        draw.random(n), 700 + np.arange(n), "hard", Signals(700 + np.arange(n), embedding=x, labels=labels)
    )


def run(names, score, count, **options):
    return find_selector(names).load()(score, count, rng=RNG, **options)


def test_deduplicated_then_random():
    score = rows()
    kept = run("semdedup,random", score, 20, eps=0.01, clusters=1)
    alone = ~duplicates(score, clusters=1, rng=Rng(3, "select/semdedup")).removed(0.01)
    left = np.flatnonzero(alone)
    assert left.size == 60
    np.testing.assert_array_equal(kept, left[random(_part(score, left), 20, rng=Rng(3, "select/random"))])


def _part(score, positions):
    return GroupScore(score.values[positions], score.ids[positions], score.sense, score.signals.take(positions))


def test_without_a_rule_every_selector_keeps_the_same_share():
    score = rows()
    kept = run(["semdedup", "ccs"], score, 40, clusters=1, hard_cut=0.0)
    first = np.sort(semdedup(score, 60, clusters=1, rng=Rng(3, "select/semdedup")))  # 90 * sqrt(40 / 90)
    expected = first[ccs(_part(score, first), 40, hard_cut=0.0, rng=Rng(3, "select/ccs"))]
    np.testing.assert_array_equal(kept, expected)


def test_a_share_may_be_given():
    score = rows()
    kept = run("top,random", score, 9, top_share=0.1, keep="hardest")
    np.testing.assert_array_equal(np.sort(kept), np.sort(top(score, 9)))
    with pytest.raises(BudgetUnreachable, match="top leaves 9 of 90 units, so 10"):
        run("top,random", score, 10, top_share=0.1)
    with pytest.raises(BudgetUnreachable, match="semdedup leaves 60 of 90 units, so 70"):
        run("semdedup,random", score, 70, eps=0.01, clusters=1)
    with pytest.raises(BadInput, match="top_share"):
        run("top,random", score, 10, top_share=1.5)


def test_options_of_two_meanings_are_told_apart():
    score = rows()
    with pytest.raises(BadInput, match="semdedup_keep or top_keep"):
        run("semdedup,top", score, 20, keep="easiest")
    kept = run("semdedup,top", score, 20, top_keep="easiest", semdedup_keep="easy", eps=0.01, clusters=1)
    assert score.values[kept].max() < np.median(score.values)
    names = {option.name for option in find_selector("semdedup,top").options}
    assert {"eps", "clusters", "top_keep", "semdedup_keep", "semdedup_share"} <= names and "keep" not in names
    within = {option.name for option in find_selector("k_center,random").options}
    assert {"within", "k_center_within", "k_center_share"} <= within and "random_share" not in within


def test_extreme_counts_and_order():
    score = rows()
    for count in (0, 1, 89, 90):
        kept = run("k_center,semdedup,random", score, count)
        assert np.unique(kept).size == kept.size == count
    order = np.random.default_rng(1).permutation(90)
    moved = _part(score, order)
    assert set(moved.ids[run("semdedup,ccs", moved, 30)]) == set(score.ids[run("semdedup,ccs", score, 30)])


def test_names():
    assert find_selector("ccs").id == "select/ccs"
    chain = find_selector("semdedup,ccs")
    assert find_selector(chain.id).id == chain.id == "select/semdedup,ccs"
    assert chain.needs == ("embedding",) and chain.facts["extras"] == ("data",)
    assert method_facts("select", "semdedup,random").random
    with pytest.raises(UnknownName, match="did you mean.*semdedup"):
        find_selector("semdedop,ccs")
    for wrong in ("semdedup,", [], "ccs,ccs"):
        with pytest.raises(BadInput):
            find_selector(wrong)


@pytest.mark.parametrize("select", ["semdedup,random", ["semdedup", "random"]])
def test_a_plan(select):
    score = rows()
    x, y = np.asarray(score.signals.embedding).astype(np.float32), np.asarray(score.signals.labels)
    data = px.Dataset((x, y), ids=score.ids)
    made = px.score(data, "random", signals=score.signals)
    plan = px.plan(made, "20 rows", select=select, eps=0.01, clusters=1, seed=3)
    assert plan.provenance["select"] == "select/semdedup,random"
    assert plan.keep().size == 20
    balanced = px.plan(made, "21 rows", select=select, allocate="uniform", seed=3)
    labels = y[np.isin(score.ids, balanced.keep())]
    assert np.bincount(labels).tolist() == [7, 7, 7]
