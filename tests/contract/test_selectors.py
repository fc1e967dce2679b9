"""Contract of selectors, on 64 units with ids in no order, or on 64 weights."""

from __future__ import annotations

import copy
import importlib
import warnings

import numpy as np
import pytest

from contract import fixtures
from contract.catalogue import draws, every
from contract.checks import generators_alone, threads
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.rng import Rng
from prunus.core.score import GroupScore

selectors = every("selector")
COUNT = 32


def score(method, order=None, values=None) -> GroupScore:
    """Of the 64 units, or of a matrix [8, 8] for selectors of weights, which have no ids."""
    ids = fixtures.arrays()[0]
    values = fixtures.draw(64).abs().numpy() if values is None else values
    sense = "keep" if method.unit == "tokens" else "hard"
    if method.unit == "weights":
        return GroupScore(values.reshape(8, 8), np.empty(0, dtype=np.int64), "keep", None, "matrix")
    at = np.arange(64) if order is None else order
    return GroupScore(values[at], ids[at], sense, fixtures.unit_signals(at), "units")


def selected(method, given: GroupScore, count: int = COUNT, **options) -> np.ndarray:
    more = fixtures.options(method) | ({"rng": Rng(0, method.id)} if draws(method) else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(method.load()(given, count, **more, **options))


@selectors
def test_the_count_is_kept(method):
    found = selected(method, score(method))
    assert found.dtype == np.int64 and found.shape == (COUNT,)
    assert np.unique(found).size == COUNT and found.min() >= 0 and found.max() < 64


@selectors
def test_order_and_threads_do_not_matter(method):
    given = score(method)
    first = selected(method, given)
    with threads(2):
        np.testing.assert_array_equal(selected(method, score(method)), first)
    if method.unit == "":
        order = np.random.RandomState(5).permutation(64)
        moved = score(method, order)
        np.testing.assert_array_equal(np.sort(moved.ids[selected(method, moved)]), np.sort(given.ids[first]))


@selectors
@pytest.mark.parametrize("count", [1, 8, 63, 64])
def test_extreme_counts_are_kept_or_refused(method, count):
    if method.name == "nm" and count * 4 % 64:  # fits no whole number of every four
        with pytest.raises(BadInput, match=f"{count} of 64"):
            selected(method, score(method), count)
        return
    found = selected(method, score(method), count)
    assert np.unique(found).size == found.size == count


@selectors
@pytest.mark.parametrize("count", [-1, 65])
def test_impossible_counts_are_refused(method, count):
    if method.unit == "tokens" and count > 64:  # an example that has fewer tokens keeps all of them
        assert selected(method, score(method), count).size == 64
        return
    with pytest.raises((BadInput, BudgetUnreachable)):
        selected(method, score(method), count)


@selectors
def test_equal_scores_are_ties_by_id(method):
    given = score(method, values=np.ones(64))
    first = selected(method, given)
    assert first.size == COUNT
    if method.unit == "":
        order = np.argsort(-given.ids)
        moved = score(method, order, np.ones(64))
        np.testing.assert_array_equal(np.sort(moved.ids[selected(method, moved)]), np.sort(given.ids[first]))


@selectors
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(method, wrong):
    values = fixtures.draw(64).abs().numpy()
    values[9] = wrong
    if method.id == "select/random":  # reads ids only
        return
    if method.unit == "tokens" and wrong == float("inf"):
        return
    with pytest.raises(NonFinite):
        selected(method, score(method, values=values))


@selectors
def test_selecting_changes_nothing(method):
    given = score(method)
    before = copy.deepcopy(given)
    with generators_alone():
        selected(method, given)
    np.testing.assert_array_equal(given.values, before.values)
    np.testing.assert_array_equal(given.ids, before.ids)


@selectors
def test_one_class_may_be_empty(method):
    if not any(option.name == "within" and "class" in option.type for option in method.options):
        return
    labels = fixtures.arrays()[2]
    found = selected(method, score(method), within="class")
    assert found.size == COUNT
    for label in fixtures.CLASSES:
        assert abs((labels[found] == label).sum() - (labels == label).sum() / 2) < 1


@selectors
def test_loss_weights_are_usable_and_follow_their_units(method):
    if not method.facts.get("weighs"):
        assert not hasattr(importlib.import_module(method.module), "weights"), "say weighs=True in the decorator"
        return
    weights = importlib.import_module(method.module).weights
    given = score(method)
    kept = np.sort(selected(method, given))
    first = weights(given, kept)
    assert first.shape == kept.shape and np.isfinite(first).all() and (first >= 0).all() and first.sum() > 0
    order = np.random.RandomState(5).permutation(64)
    moved = score(method, order)
    places = np.argsort(order)[kept]
    np.testing.assert_allclose(weights(moved, places), first, rtol=1e-6, atol=1e-9)
