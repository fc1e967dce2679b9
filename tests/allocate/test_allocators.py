"""Properties every allocator keeps: exact sums, floors, caps, order of groups irrelevant; then each one's own rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.allocate.erk import erk
from prunus.allocate.global_ import global_
from prunus.allocate.knapsack import best_value, knapsack
from prunus.allocate.proportional import proportional
from prunus.allocate.request import Request
from prunus.allocate.strata import strata
from prunus.allocate.uniform import uniform

ALLOCATORS = {
    "uniform": uniform,
    "proportional": lambda r: proportional(r, power=0.5),
    "equal": lambda r: proportional(r, power=0.0),
    "by_score": lambda r: proportional(r, by="score"),
    "strata": strata,
    "global": global_,
    "knapsack": knapsack,
    "knapsack_greedy": lambda r: knapsack(r, largest=0),
    "erk": erk,
}
PRICED = ("uniform", "proportional", "equal", "by_score", "global", "knapsack", "knapsack_greedy")
MONOTONE = ("strata", "global")


@st.composite
def requests(draw, priced=False):
    """A request that can be met: floors, caps, tied scores, and a total between what they need and allow."""
    shapes = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=6))
    sizes = [math.prod(shape) for shape in shapes]
    names = draw(st.permutations([f"layer{i}" for i in range(len(sizes))]))
    caps = [draw(st.integers(0, size)) for size in sizes] if draw(st.booleans()) else list(sizes)
    floors = [draw(st.integers(0, min(cap, 3))) for cap in caps]
    costs = [draw(st.sampled_from([1.0, 2.0, 3.5])) for _ in sizes] if priced else [1.0] * len(sizes)
    scores = [np.array(draw(st.lists(st.integers(0, 4), min_size=s, max_size=s)), dtype=np.float32) for s in sizes]
    least = sum(f * c for f, c in zip(floors, costs))
    most = sum(m * c for m, c in zip(caps, costs))
    total = draw(st.integers(math.ceil(least), math.floor(most))) if math.ceil(least) <= math.floor(most) else least
    sense = draw(st.sampled_from(["keep", "hard", "easy"]))
    return Request.of(
        sizes, total, names=names, floors=floors, caps=caps, costs=costs, scores=scores, sense=sense, shapes=shapes
    )


def shuffled(request, order):
    return Request.of(
        request.sizes[order],
        request.total,
        names=[request.names[i] for i in order],
        floors=request.floors[order],
        caps=request.caps[order],
        costs=request.costs[order],
        scores=[request.scores[i] for i in order],
        sense=request.sense,
        shapes=[request.shapes[i] for i in order],
    )


def with_total(request, total):
    return Request.of(
        request.sizes, total, names=request.names, floors=request.floors, caps=request.caps, costs=request.costs,
        scores=request.scores, sense=request.sense, shapes=request.shapes,
    )  # fmt: skip


@pytest.mark.parametrize("name", ALLOCATORS)
@settings(max_examples=40, deadline=None)
@given(request=requests())
def test_sum_is_exact_and_floors_and_caps_are_kept(name, request):
    counts = ALLOCATORS[name](request)
    assert counts.dtype == np.int64
    assert counts.shape == request.sizes.shape
    assert counts.sum() == request.total
    assert (counts >= request.floors).all()
    assert (counts <= request.caps).all()


@pytest.mark.parametrize("name", PRICED)
@settings(max_examples=40, deadline=None)
@given(request=requests(priced=True))
def test_priced_counts_cost_at_most_the_total(name, request):
    counts = ALLOCATORS[name](request)
    assert counts @ request.costs <= request.total * (1 + 1e-9)
    assert (counts >= request.floors).all()
    assert (counts <= request.caps).all()


@pytest.mark.parametrize("name", ALLOCATORS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_order_of_groups_does_not_matter(name, data):
    request = data.draw(requests(priced=name in PRICED and data.draw(st.booleans())))
    order = np.array(data.draw(st.permutations(range(len(request.names)))), dtype=np.int64)
    assert (ALLOCATORS[name](shuffled(request, order)) == ALLOCATORS[name](request)[order]).all()


@pytest.mark.parametrize("name", MONOTONE)
@settings(max_examples=40, deadline=None)
@given(request=requests())
def test_a_larger_total_takes_no_unit_away(name, request):
    if request.total + 1 > request.caps.sum():
        return
    assert (ALLOCATORS[name](with_total(request, request.total + 1)) >= ALLOCATORS[name](request)).all()


@pytest.mark.parametrize("name", ALLOCATORS)
@settings(max_examples=20, deadline=None)
@given(request=requests())
def test_empty_and_full_budgets(name, request):
    least, most = int(request.floors.sum()), int(request.caps.sum())
    assert (ALLOCATORS[name](with_total(request, least)) == request.floors).all()
    assert (ALLOCATORS[name](with_total(request, most)) == request.caps).all()


@pytest.mark.parametrize("name", ALLOCATORS)
def test_no_groups(name):
    request = Request.of([], 0, scores=[], shapes=[])
    assert ALLOCATORS[name](request).shape == (0,)


def test_more_groups_than_budget_goes_to_the_largest():
    request = Request.of({"b": 4, "a": 4, "c": 2}, 1)
    assert uniform(request).tolist() == [0, 1, 0]  # equal remainders: the smaller name
    assert strata(request).tolist() == [1, 0, 0]  # the last served of the largest takes the remainder
    assert strata(Request.of({"b": 4, "a": 4, "c": 2}, 2)).tolist() == [1, 1, 0]


def test_more_groups_than_budget_goes_to_the_best_units():
    scores = [np.array([1.0, 9.0]), np.array([8.0, 2.0]), np.array([9.0, 0.0])]
    request = Request.of({"x": 2, "y": 2, "a": 2}, 1, scores=scores)
    assert global_(request).tolist() == [0, 0, 1]
    assert knapsack(Request.of({"x": 2, "y": 2}, 1, scores=scores[:2])).tolist() == [1, 0]


@settings(max_examples=60, deadline=None)
@given(request=requests(priced=True))
def test_proportional_shares_are_within_one_unit_of_the_count(request):
    from prunus.allocate.apportion import project

    counts = uniform(request)
    shares = project(request.sizes.astype(float), request.floors, request.caps, request.costs, request.total)
    assert shares @ request.costs == pytest.approx(request.total)
    assert (np.abs(counts - shares) < 1 + 1e-6).all()


def test_uniform_is_exact_proportion_where_that_is_whole():
    assert uniform(Request.of([10, 20, 70], 50)).tolist() == [5, 10, 35]
    assert uniform(Request.of([10, 20, 70], 53)).tolist() == [5, 11, 37]  # remainders .3 .6 .1


def test_proportional_over_many_groups_agrees_with_few():
    sizes = np.arange(1, 200)
    request = Request.of(sizes, 5000, floors=2)
    counts = uniform(request)
    share = 5000 / sizes.sum()
    assert counts.sum() == 5000
    assert (np.abs(counts[50:] - share * sizes[50:]) < 1.5).all()


def test_groups_of_zero_weight_fill_last():
    request = Request.of({"a": 3, "b": 5}, 6, scores=[np.ones(3), np.zeros(5)])
    assert proportional(request, by="score").tolist() == [3, 3]


@settings(max_examples=60, deadline=None)
@given(populations=st.lists(st.integers(0, 30), min_size=1, max_size=12), data=st.data())
def test_strata_levels_differ_by_one_where_not_exhausted(populations, data):
    total = data.draw(st.integers(0, sum(populations)))
    counts = strata(Request.of(populations, total))
    by_population = counts[np.argsort(populations, kind="stable")]
    assert (np.diff(by_population) >= 0).all()
    open_ = counts < np.array(populations)
    if open_.any():
        level = counts[open_]
        assert level.max() - level.min() <= 1
        assert counts.max() <= level.max() + 1  # the largest take the remainder, up to their own population


@settings(max_examples=40, deadline=None)
@given(request=requests(priced=True))
def test_knapsack_is_at_least_as_good_as_the_others(request):
    best = best_value(request, knapsack(request))
    for name in ("global", "knapsack_greedy"):
        if request.sense != "easy":  # turned scores are then at least 0, and leaving a unit out never pays
            assert best >= best_value(request, ALLOCATORS[name](request)) - 1e-6


def test_knapsack_states_the_solver():
    scores = [np.array([3.0, 1.0]), np.array([2.0])]
    request = Request.of([2, 1], 3, costs=[1.0, 2.0], scores=scores)
    assert knapsack(request).tolist() == [1, 1]
    assert "HiGHS" in request.notes["knapsack"]
    greedy = Request.of([2, 1], 3, costs=[1.0, 2.0], scores=scores)
    knapsack(greedy, largest=1)
    assert "greedy" in greedy.notes["knapsack"]


@settings(max_examples=40, deadline=None)
@given(request=requests())
def test_global_keeps_the_best_of_all_when_nothing_binds(request):
    free = Request.of(request.sizes, request.total, names=request.names, scores=request.scores, sense=request.sense)
    counts = global_(free)
    turned = [free.first_to_keep(g) for g in range(len(free.names))]
    kept = np.concatenate([np.sort(v)[::-1][:c] for v, c in zip(turned, counts)])
    every = np.sort(np.concatenate(turned))[::-1]
    assert (np.sort(kept)[::-1] == every[: kept.size]).all()


def test_erk_keeps_small_layers_denser():
    shapes = [(8, 4, 3, 3), (16, 8, 3, 3), (32, 16, 3, 3)]
    sizes = [math.prod(s) for s in shapes]
    counts = erk(Request.of(sizes, sum(sizes) // 5, shapes=shapes))
    density = counts / np.array(sizes)
    assert density[0] > density[1] > density[2]
    assert (erk(Request.of(sizes, sum(sizes), shapes=shapes)) == sizes).all()
