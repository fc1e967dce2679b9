"""Contract of compensators, on a matrix that reads 64 units."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.catalogue import every
from contract.checks import generators_alone, threads
from prunus.core import edits as edits_
from prunus.core.errors import BadInput, NonFinite

compensators = every("compensator", "")
DROPPED = np.arange(0, 64, 3)


def outputs(reader, inputs, edits) -> torch.Tensor:
    """What the reader makes of its inputs without the dropped units, after the edits."""
    weight = reader.value.double().clone()
    weight[:, DROPPED] = 0
    bias = torch.zeros(weight.shape[0], dtype=torch.float64)
    for edit in edits:
        if isinstance(edit, edits_.SetWeight):
            weight = torch.from_numpy(edit.value).double()
        elif isinstance(edit, edits_.AddBias):
            bias += torch.from_numpy(edit.value).double()
        else:
            raise AssertionError(f"say here what {type(edit).__name__} does to a matrix")
    return inputs @ weight.T + bias


@compensators
def test_edits_are_finite_and_make_the_output_better(method):
    reader, inputs = fixtures.reader()
    edits = method.load()(reader, DROPPED)
    assert edits
    for edit in edits:
        arrays = [value for value in vars(edit).values() if isinstance(value, np.ndarray)]
        assert all(np.isfinite(array).all() and array.dtype in (np.float32, np.float64) for array in arrays)
    for edit in edits:
        if isinstance(edit, edits_.SetWeight):
            assert edit.value.shape == tuple(reader.value.shape) and not edit.value[:, DROPPED].any()
    wanted = inputs @ reader.value.double().T
    before, after = ((wanted - outputs(reader, inputs, given)).square().sum() for given in ((), edits))
    assert after < before


@compensators
def test_bytes_do_not_depend_on_threads(method):
    reader, _ = fixtures.reader()
    _, first = edits_.to_json(method.load()(reader, DROPPED))
    with threads(2):
        _, again = edits_.to_json(method.load()(reader, DROPPED[::-1].copy()))
    assert {name: value.tobytes() for name, value in again.items()} == {n: v.tobytes() for n, v in first.items()}


@compensators
def test_nothing_dropped_is_no_edit_and_all_is_refused_or_finite(method):
    reader, _ = fixtures.reader()
    assert method.load()(reader, np.array([], dtype=np.int64)) == ()
    with suppress(BadInput):
        _, arrays = edits_.to_json(method.load()(reader, np.arange(64)))
        assert all(np.isfinite(array).all() for array in arrays.values())


@compensators
def test_positions_outside_are_refused(method):
    reader, _ = fixtures.reader()
    for dropped in ([64], [-1]):
        with pytest.raises(BadInput, match="m.weight"):
            method.load()(reader, np.array(dropped))


@compensators
def test_equal_inputs_are_no_obstacle(method):
    reader, _ = fixtures.reader()
    equal = replace(reader, hessian=torch.ones(64, 64, dtype=torch.float64), input_mean=torch.ones(64, 1))
    dead = replace(reader, hessian=torch.zeros(64, 64, dtype=torch.float64), input_mean=torch.zeros(64, 1))
    for given in (equal, dead):
        _, arrays = edits_.to_json(method.load()(given, DROPPED))
        assert all(np.isfinite(array).all() for array in arrays.values())


@compensators
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_name(method, wrong):
    reader, _ = fixtures.reader()
    for name in method.needs:
        value = getattr(reader, name).clone()
        value.view(-1)[0] = wrong
        with pytest.raises(NonFinite, match="m.weight"):
            method.load()(replace(reader, **{name: value}), DROPPED)


@compensators
def test_the_reader_is_left_as_it_was(method):
    reader, _ = fixtures.reader()
    with generators_alone():
        method.load()(reader, DROPPED)
    for name in ("value", "hessian", "input_mean"):
        assert torch.equal(getattr(reader, name), getattr(fixtures.reader()[0], name)), f"{name} was changed"


@compensators
def test_what_is_missing_is_named(method):
    reader, _ = fixtures.reader()
    with pytest.raises(BadInput, match=method.needs[0].replace("input_", "")):
        method.load()(replace(reader, **dict.fromkeys(method.needs)), DROPPED)
