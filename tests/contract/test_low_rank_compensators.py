"""Contract of compensators that add a path beside a compressed matrix: on a matrix of 64 weights and in a model."""

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
from prunus.core.edits import LowRank
from prunus.core.errors import BadInput, NonFinite
from prunus.flow.controls import random_like
from prunus.flow.weights import plan_weights

UNIT = "weights"
compensators = every("compensator", UNIT, gives="low_rank")
MASK = np.random.RandomState(3).rand(8, 8) < 0.6


def planned(method, prunable=None, name="weights/magnitude", **settings):
    given = {"signals": fixtures.measured(UNIT), "compensate": method.name, "options": {"rank": 2}, **settings}
    return plan_weights(prunable or fixtures.prunable(UNIT), registry.find(name), Budget.parse("50% weights"), **given)


@compensators
def test_the_path_lowers_the_error_of_the_outputs(method):
    layer = fixtures.layer()
    before = {name: value.clone() for name, value in vars(layer).items() if isinstance(value, torch.Tensor)}
    rest = layer.weight.numpy() * MASK
    with generators_alone():
        a, b = method.load()(layer, rest, rank=3)
    assert a.shape == (3, 8) and b.shape == (8, 3)

    def error(added):
        missed = layer.weight.numpy() - rest - added
        return np.trace(missed @ layer.hessian.numpy() @ missed.T)

    assert error(b @ a) < error(0)
    for name, value in before.items():
        assert torch.equal(getattr(layer, name), value), f"{name} was changed"
    a, b = method.load()(layer, layer.weight.numpy(), rank=3)
    assert not (b @ a).any(), "nothing was lost"


@compensators
def test_inputs_that_are_never_on_and_layers_that_saw_nothing_stay_finite(method):
    layer = fixtures.layer()
    rest = layer.weight.numpy() * MASK
    quiet = layer.hessian.clone()
    quiet[2], quiet[:, 2] = 0, 0
    for hessian in (quiet, torch.zeros(8, 8)):
        a, b = method.load()(SimpleNamespace(**{**vars(layer), "hessian": hessian}), rest, rank=8)
        assert np.isfinite(b @ a).all()


@compensators
def test_bad_numbers_are_refused(method):
    layer = fixtures.layer()
    rest = layer.weight.numpy() * MASK
    with pytest.raises(BadInput, match="m.weight"):
        method.load()(layer, rest[:4])
    with pytest.raises(BadInput, match="m.weight"):
        method.load()(SimpleNamespace(**{**vars(layer), "hessian": torch.ones(2, 4, 4)}), rest)
    with pytest.raises(BadInput, match="rank"):
        method.load()(layer, rest, rank=0)
    with pytest.raises(NonFinite, match="m.weight"):
        method.load()(SimpleNamespace(**{**vars(layer), "hessian": layer.hessian * float("nan")}), rest)


@compensators
def test_plans_hold_the_path_and_the_same_mask(method, tmp_path):
    prunable = fixtures.fresh(UNIT)
    with untouched(prunable.model):
        plan = planned(method, prunable)
    plain = planned(method, compensate="none", options={})
    for name, one in plan.groups.items():
        np.testing.assert_array_equal(one.mask(), plain.groups[name].mask())
    sparse, masked = prunable.apply(plan), prunable.apply(plain)
    for name, one in plan.groups.items():
        assert torch.equal(sparse.get_parameter(name), masked.get_parameter(name))
        assert int(sparse.get_parameter(name).count_nonzero()) == one.count
    more = sum(p.numel() for p in sparse.parameters()) - sum(p.numel() for p in masked.parameters())
    assert plan.planned["low_rank"] == more > 0
    assert prunable.cost(plan)["params"] == sum(p.numel() for p in sparse.parameters())
    x = fixtures.draw(8, 1, 16, 16)
    dense = fixtures.model(UNIT)(x)
    assert (sparse.eval()(x) - dense).norm() < (masked.eval()(x) - dense).norm()
    round_trip(plan, tmp_path / "plan")
    with threads(2):
        assert contents(planned(method), tmp_path / "again") == contents(plan, tmp_path / "first")


@compensators
def test_it_follows_solvers_and_controls_get_it_too(method):
    solved = planned(method, name="weights/sparsegpt", options={"rank": 2, "damp": 0.02})
    assert solved.provenance["options"] == {"rank": 2, "damp": 0.02}
    assert sum(isinstance(edit, LowRank) for edit in solved.edits) == len(solved.groups)
    control = random_like(solved, 0, prunable=fixtures.prunable(UNIT), signals=fixtures.measured(UNIT))
    assert {type(edit) for edit in control.edits} == {LowRank}
    with pytest.raises(BadInput, match="steps"):
        planned(method, steps=2, signals=None, data=fixtures.dataset())
