"""D-Pruner of one softmax layer against an independent derivation of the formulas."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.score import GroupScore
from prunus.select.per_group import per_group
from prunus.select.per_output import per_output
from prunus.weights.d_pruner import d_pruner

pytestmark = pytest.mark.golden("d-pruner--score")


@pytest.fixture
def layer(case):
    """Statistics from the data of the case: the hessian of the general inputs, gradients of each row of the domain."""
    weight = torch.from_numpy(case["W"])
    general, domain = torch.from_numpy(case["general_inputs"]), torch.from_numpy(case["domain_inputs"])
    labels = torch.nn.functional.one_hot(torch.from_numpy(case["domain_labels"]), len(weight))
    errors = (domain @ weight.T).softmax(1) - labels
    rows = errors[:, :, None] * domain[:, None, :]
    hessian = general.T @ general / len(general)
    return SimpleNamespace(
        name="linear", weight=weight, hessian=hessian, grad=rows.mean(0), grad_square=rows.square().mean(0)
    )


def _options(case):
    names = {"lam": "lam", "alpha": "alpha", "damp": "damping"}
    return {option: case.value(name) for option, name in names.items()} | {"normalise": False}


def test_statistics(case, layer):
    damped = layer.hessian + case.value("damping") * layer.hessian.diagonal().mean() * torch.eye(
        len(layer.hessian), dtype=torch.float64
    )
    np.testing.assert_allclose(damped, case["hessian"], rtol=1e-9)
    np.testing.assert_allclose(layer.grad, case["grad_next"], rtol=1e-9, atol=1e-15)


def test_scores(case, layer):
    general = d_pruner(layer, damp=case.value("damping"), importance="general")
    np.testing.assert_allclose(general, case["general_importance"], rtol=1e-9)
    np.testing.assert_allclose(d_pruner(layer, **_options(case)), case["score"], rtol=1e-9)


def test_gradient_and_fisher_of_the_regularised_loss(case, layer):
    """The two terms of the score, seen through weights of one and of two: s(w) = |t w - f w^2 / 2|."""
    np.testing.assert_allclose(
        case["grad_total"],
        case["grad_next"]
        - 2 * case.value("lam") * case.value("alpha") * case["general_importance"] * case["grad_next"],
        rtol=1e-9,
    )
    taylor = case["grad_total"] * case["W"] - 0.5 * case["fisher_diag"] * case["W"] ** 2
    np.testing.assert_allclose(d_pruner(layer, **_options(case)), np.abs(taylor), rtol=1e-9)


def test_masks(case, layer):
    values, ratio = d_pruner(layer, **_options(case)).numpy(), case.value("sparsity")
    score = GroupScore(values, np.arange(values.size))
    outputs, inputs = values.shape
    kept = {
        "keep_mask_layer": per_group(score, values.size - int(values.size * ratio)),
        "keep_mask_rows": per_output(score, outputs * (inputs - int(inputs * ratio))),
    }
    for name, positions in kept.items():
        mask = np.zeros(values.size, dtype=bool)
        mask[positions] = True
        np.testing.assert_array_equal(mask.reshape(values.shape), case[name], err_msg=name)
