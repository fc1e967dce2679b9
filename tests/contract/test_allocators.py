"""Contract of allocators, on 64 units in five groups."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from contract import fixtures
from contract.catalogue import every
from contract.checks import generators_alone, threads
from prunus.allocate.request import Request
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.rng import Rng

allocators = every("allocator")


def counts(method, request: Request) -> dict[str, int]:
    found = method.load()(request)
    assert found.dtype == np.int64 and found.shape == request.sizes.shape
    return dict(zip(request.names, found.tolist()))


@allocators
@pytest.mark.parametrize("total", [0, 1, 7, 32, 63, 64])
def test_the_total_is_met(method, total):
    found = counts(method, fixtures.request(total))
    assert sum(found.values()) == total
    assert all(0 <= found[name] <= size for name, size in fixtures.SIZES.items())


@allocators
def test_floors_hold(method):
    found = counts(method, fixtures.request(20, floors=2))
    assert sum(found.values()) == 20 and min(found.values()) >= 2
    with pytest.raises(BudgetUnreachable, match="nearest"):
        counts(method, fixtures.request(9, floors=2))
    with pytest.raises(BudgetUnreachable, match="nearest"):
        counts(method, fixtures.request(65))


@allocators
def test_order_and_threads_do_not_matter(method):
    first = counts(method, fixtures.request(31))
    with threads(2):
        assert counts(method, fixtures.request(31, "dbeca")) == first
        assert counts(method, fixtures.request(31)) == first


@allocators
def test_equal_scores_are_ties_by_name(method):
    scores = {name: np.ones(size) for name, size in fixtures.SIZES.items()}
    first = counts(method, fixtures.request(31, scores=scores))
    assert sum(first.values()) == 31
    assert counts(method, fixtures.request(31, "edcba", scores=scores)) == first


@allocators
def test_a_group_may_be_empty(method):
    sizes = {"a": 16, "b": 0, "c": 48}
    shapes, scores = ((4, 4), (0, 4), (6, 8)), [np.ones(size) for size in sizes.values()]
    request = Request.of(sizes, 32, shapes=shapes, scores=scores, recalls=[0.5, 0.5, 0.9], rng=Rng(0, "contract"))
    if "shapes" in method.needs:  # a matrix without weights has no density
        with pytest.raises(BadInput, match="empty"):
            counts(method, request)
        return
    found = counts(method, request)
    assert found["b"] == 0 and sum(found.values()) == 32


@allocators
def test_one_group_takes_all(method):
    scores, rng = [fixtures.draw(64).abs().numpy()], Rng(0, "c")
    request = Request.of({"a": 64}, 13, shapes=[(8, 8)], scores=scores, recalls=[0.5], rng=rng)
    assert counts(method, request) == {"a": 13}


@allocators
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(method, wrong):
    scores = {name: np.ones(size) for name, size in fixtures.SIZES.items()}
    scores["c"][3] = wrong
    with pytest.raises(NonFinite, match="'c'"):
        counts(method, fixtures.request(31, scores=scores))


@allocators
def test_the_request_is_left_as_it_was(method):
    request = fixtures.request(31)
    before = copy.deepcopy(request)
    with generators_alone():
        counts(method, request)
    for name in ("sizes", "floors", "caps", "costs"):
        np.testing.assert_array_equal(getattr(request, name), getattr(before, name))
    for now, then in zip(request.scores, before.scores):
        np.testing.assert_array_equal(now, then)
    assert all(isinstance(note, str) for note in request.notes.values())


@allocators
def test_what_is_missing_is_named(method):
    for need in method.needs:
        bare = Request.of(fixtures.SIZES, 32)
        with pytest.raises(BadInput, match=need.rstrip("s")):
            counts(method, bare)
