"""Contract of dynamics, on 64 rows over eight epochs."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from contract import fixtures
from contract.catalogue import every
from contract.checks import generators_alone, threads
from prunus.core.errors import BadInput, IdMismatch
from prunus.core.rng import uniform
from prunus.rows.sampler import Sampler

dynamics = every("dynamic", "rows")
EPOCHS = 8


def loss_of(ids: np.ndarray, t: int) -> np.ndarray:
    """A loss of its own for every id, falling over the epochs."""
    return ((ids * 37 % 101) / 101 + 1).astype(np.float32) / (t + 1)


def run(dynamic, first: int = 0, last: int = EPOCHS) -> list[dict[int, float]]:
    """id -> loss weight of every epoch; losses are reported in batches, as training does."""
    found = []
    for t in range(first, last):
        plan = dynamic.epoch(t)
        weights = np.ones(len(plan)) if plan.weights is None else plan.weights
        found.append(dict(zip(plan.ids.tolist(), weights.tolist())))
        for ids in np.array_split(plan.ids, 3):
            dynamic.seen(ids, loss_of(ids, t))
    return found


def embed(ids: np.ndarray) -> np.ndarray:
    """Four numbers for every id."""
    return np.stack([uniform(0, f"embedding {k}", ids) - 0.5 for k in range(4)], axis=1)


def build(method, ids, **options):
    given = {"embed": embed} if "embedding" in method.needs else {}
    return method.load()(ids, **given, **options)


def made(method, order=None, **options):
    ids = fixtures.arrays()[0]
    return build(method, ids if order is None else ids[order], seed=3, **options)


@dynamics
def test_epochs_are_rows_of_the_data(method):
    for epoch in run(made(method)):
        assert epoch and set(epoch) <= set(fixtures.arrays()[0].tolist())
        assert all(np.isfinite(weight) and weight >= 0 for weight in epoch.values())


@dynamics
def test_order_threads_and_asking_twice_do_not_matter(method):
    with generators_alone():
        first = run(made(method))
    with threads(2):
        assert run(made(method, np.random.RandomState(4).permutation(64))) == first
    dynamic = made(method)
    np.testing.assert_array_equal(dynamic.epoch(0).ids, dynamic.epoch(0).ids)
    assert run(build(method, fixtures.arrays()[0], seed=4)) != first


@dynamics
def test_a_saved_state_goes_on_as_if_nothing_had_happened(method):
    whole = run(made(method))
    first = made(method)
    assert run(first, 0, 3) == whole[:3]
    state = json.loads(json.dumps(first.state_dict(), default=lambda array: array.tolist()))
    second = made(method)
    second.load_state_dict(state)
    assert run(second, 3) == whole[3:]
    assert run(copy.deepcopy(first), 3) == whole[3:]
    with pytest.raises((BadInput, IdMismatch)):
        build(method, fixtures.arrays()[0][:60], seed=3).load_state_dict(state)


@dynamics
def test_what_is_no_data_is_refused(method):
    for ids in ([], [1, 1, 2], [0.5, 1.5]):
        with pytest.raises(BadInput):
            build(method, np.asarray(ids), seed=0)
    with pytest.raises(BadInput):
        made(method).epoch(-1)


@dynamics
def test_one_row(method):
    options = {"fraction": 1.0} if any(option.name == "fraction" for option in method.options) else {}
    dynamic = build(method, np.array([7]), seed=0, **options)
    assert all(set(epoch) <= {7} for epoch in run(dynamic))


@dynamics
def test_it_drives_a_sampler(method):
    ids = fixtures.arrays()[0]
    sampler = Sampler(made(method), ids, seed=0)
    for _ in range(3):
        expected = set(sampler.plan.ids.tolist())
        assert {int(ids[position]) for position in sampler} == expected
