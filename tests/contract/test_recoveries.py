"""Contract of recoveries, on a small network and 64 rows."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import every
from contract.checks import generators_alone, threads
from prunus.core.errors import BadInput, SplitError
from prunus.flow.recover import recover

recoveries = every("recovery", rows=None)  # those of pairs of text: tests/recovery


def settings(method) -> dict[str, object]:
    """As short as it goes."""
    own = {option.name for option in method.options}
    return {name: value for name, value in {"steps": 2, "lr": 0.05, "batch": 32}.items() if name in own}


def recovered(method, model=None, data=None, **more):
    teacher = fixtures.model("channels")
    given = {**settings(method), "how": method.id, "teacher": teacher, **more}
    return recover(model or fixtures.model("channels"), data=data or fixtures.dataset(), **given)


@recoveries
def test_a_copy_comes_back_finite_and_in_evaluation_mode(method):
    model = fixtures.model("channels").train()
    before = copy.deepcopy(model.state_dict())
    with generators_alone():
        found = recovered(method, model)
    assert found is not model and not found.training and type(found) is type(model)
    assert list(found.state_dict()) == list(before)
    assert all(torch.isfinite(value).all() for value in found.state_dict().values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and all(p.grad is None for p in model.parameters())
    assert not any(hooks for m in found.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks))
    copy.deepcopy(found)(fixtures.draw(2, 1, 16, 16)).sum().backward()


@recoveries
def test_it_depends_on_seed_and_ids_not_on_order_or_threads(method):
    first = recovered(method).state_dict()
    order = np.random.RandomState(2).permutation(64)
    with threads(2):
        again = recovered(method, data=fixtures.dataset(order)).state_dict()
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@recoveries
def test_the_teacher_and_the_rows_are_left_alone(method):
    teacher, data = fixtures.model("channels").train(), fixtures.dataset()
    before, x = copy.deepcopy(teacher.state_dict()), data.backing.column("x").copy()
    recovered(method, data=data, teacher=teacher)
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    np.testing.assert_array_equal(data.backing.column("x"), x)


@recoveries
def test_masked_weights_stay_zero_and_frozen_ones_stay_frozen(method):
    model = fixtures.model("channels")
    mask = fixtures.draw(*model.hidden.weight.shape) > 0
    with torch.no_grad():
        model.hidden.weight.mul_(mask)
    model.last.requires_grad_(False)
    before = model.last.weight.clone()
    found = recovered(method, model, masks={"hidden.weight": mask})
    assert not found.hidden.weight[~mask].any()
    assert torch.equal(found.last.weight, before) and not found.last.weight.requires_grad


@recoveries
def test_roles_and_rows_are_checked(method):
    for role in ("test", "val"):
        with pytest.raises(SplitError):
            recovered(method, data=fixtures.dataset(role=role))
    with pytest.raises((BadInput, TypeError), match="no_such_setting"):
        recovered(method, no_such_setting=1)
