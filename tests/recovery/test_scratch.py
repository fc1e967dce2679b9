"""Training from scratch: how long, from which weights, under which mask."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from prunus.core.errors import BadInput
from prunus.flow.recover import recover
from prunus.measure.flops import flops_of
from prunus.prunables.dataset import Dataset
from prunus.recovery.scratch import scratch_length
from prunus.train.models import TinyCNN, seeded

X = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
ROWS = Dataset((X, np.arange(96) % 10), role="fit")
DENSE, SMALL = seeded(TinyCNN, 0), seeded(TinyCNN, 0, width=8)


def run(model=SMALL, **settings):
    report = {}
    settings = {"teacher": DENSE, "epochs": 2, "batch": 32, **settings}
    return recover(model, data=ROWS, how="scratch", report=report, **settings), report


def test_budget_e_has_the_dense_epochs_and_b_the_dense_flops():
    ratio = flops_of(DENSE, ROWS) / flops_of(SMALL, ROWS)
    assert ratio > 2
    assert run(budget="E")[1]["samples"] == 2 * 96
    _, told = run(budget="B")
    epochs = told["samples"] / 96
    assert epochs * flops_of(SMALL, ROWS) <= 2 * flops_of(DENSE, ROWS) < (epochs + 1) * flops_of(SMALL, ROWS)
    assert told["flop_ratio"] == pytest.approx(ratio)
    assert run(budget="B", most=1.5)[1]["samples"] == 3 * 96
    assert run(budget="B", epochs=None, steps=4)[1]["steps"] == int(4 * ratio)


def test_a_larger_network_gets_no_fewer_epochs():
    assert scratch_length(10, 1.0, 4.0) == 10
    with pytest.raises(BadInput):
        scratch_length(10, 0.0, 1.0)


def test_operations_grow_with_the_area_and_not_with_the_batch():
    wide = np.concatenate([X, X], axis=3), np.zeros(96)
    assert flops_of(DENSE, wide) == pytest.approx(2 * flops_of(DENSE, (X, np.zeros(96))), rel=1e-2)
    assert flops_of(DENSE, (X[:1], np.zeros(1))) == flops_of(DENSE, (X, np.zeros(96)))


def test_nothing_of_the_inherited_weights_remains():
    strong = copy.deepcopy(SMALL)
    found, _ = run(strong, steps=1, epochs=None, budget="E", lr=1e-6)
    pair = torch.stack([strong.conv2.weight.flatten(), found.conv2.weight.flatten()]).detach()
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.1
    strong.conv2.weight.data.mul_(100)
    again, _ = run(strong, steps=1, epochs=None, budget="E", lr=1e-6)
    torch.testing.assert_close(again.conv2.weight, found.conv2.weight)
    other, _ = run(strong, steps=1, epochs=None, budget="E", lr=1e-6, seed=1)
    assert not torch.allclose(other.conv2.weight, found.conv2.weight)


def test_masks_stay_and_count():
    mask = torch.rand(DENSE.conv2.weight.shape, generator=torch.Generator().manual_seed(1)) < 0.2
    found, told = run(DENSE, masks={"conv2.weight": mask})
    assert torch.equal(found.conv2.weight != 0, mask)
    sparse = copy.deepcopy(DENSE)
    sparse.conv2.weight.data.mul_(mask)
    assert told["flop_ratio"] == pytest.approx(flops_of(DENSE, ROWS) / flops_of(sparse, ROWS, nonzero=True))
    assert told["samples"] == 96 * int(2 * told["flop_ratio"])


def test_what_is_missing_is_named():
    with pytest.raises(BadInput, match="epochs or steps"):
        run(epochs=None)
    with pytest.raises(BadInput, match="teacher"):
        run(teacher=None)
