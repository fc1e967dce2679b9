"""Contract of compensators over weights: new values under any mask, on a matrix of 64 weights and in a model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import every
from contract.checks import contents, generators_alone, round_trip, threads, untouched
from prunus.core import registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.flow.weights import plan_weights

UNIT = "weights"
compensators = every("compensator", UNIT, gives=None)
MASK = np.random.RandomState(3).rand(8, 8) < 0.6


def planned(method, prunable=None, **settings):
    settings = {"signals": fixtures.measured(UNIT), "compensate": method.name, **settings}
    found = registry.find("weights/magnitude")
    return plan_weights(prunable or fixtures.prunable(UNIT), found, Budget.parse("50% weights"), **settings)


@compensators
def test_new_values_under_any_mask(method):
    layer = fixtures.layer()
    before = {name: value.clone() for name, value in vars(layer).items() if isinstance(value, torch.Tensor)}
    with generators_alone():
        new = method.load()(layer, MASK)
    assert new.shape == (8, 8) and np.isfinite(new).all() and not new[~MASK].any()
    assert not np.array_equal(new[MASK], layer.weight.numpy()[MASK])
    for name, value in before.items():
        assert torch.equal(getattr(layer, name), value), f"{name} was changed"


@compensators
def test_nothing_dropped_changes_nothing_and_all_dropped_is_zero(method):
    layer = fixtures.layer()
    np.testing.assert_allclose(method.load()(layer, np.ones((8, 8), dtype=bool)), layer.weight, rtol=1e-6, atol=1e-7)
    assert not method.load()(layer, np.zeros((8, 8), dtype=bool)).any()


@compensators
def test_bytes_do_not_depend_on_threads(method):
    first = method.load()(fixtures.layer(), MASK)
    with threads(2):
        assert method.load()(fixtures.layer(), MASK).tobytes() == first.tobytes()


@compensators
def test_masks_and_statistics_of_another_layer_are_refused(method):
    with pytest.raises(BadInput, match="m.weight"):
        method.load()(fixtures.layer(), MASK[:4])
    layer = fixtures.layer()
    wrong = {name: torch.ones(3, 3, 3) for name in method.needs if name != "weight"}
    with pytest.raises(BadInput, match="m.weight"):
        method.load()(SimpleNamespace(**{**vars(layer), **wrong}), MASK)


@compensators
def test_plans_hold_the_new_values_and_the_same_mask(method, tmp_path):
    prunable = fixtures.fresh(UNIT)
    with untouched(prunable.model):
        plan = planned(method, prunable)
    plain = planned(method, compensate="none")
    assert plan.provenance["compensate"] == [method.id] and plan.edits and not plain.edits
    for name, one in plan.groups.items():
        np.testing.assert_array_equal(one.mask(), plain.groups[name].mask())
    sparse = prunable.apply(plan)
    kept = sum(int(sparse.get_parameter(name).count_nonzero()) for name in plan.groups)
    assert kept == plan.planned["weights"]
    round_trip(plan, tmp_path / "plan")
    with threads(2):
        assert contents(planned(method), tmp_path / "again") == contents(plan, tmp_path / "first")


@compensators
def test_solvers_and_channels_have_their_own(method):
    found = registry.find("weights/sparsegpt")
    with pytest.raises(BadInput, match="itself"):
        plan_weights(
            fixtures.prunable(UNIT),
            found,
            Budget.parse("50% weights"),
            signals=fixtures.measured(UNIT),
            compensate=method.name,
        )
    with pytest.raises(BadInput, match=method.name):
        planned(method, compensate="mean_bias")
