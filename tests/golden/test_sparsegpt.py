"""SparseGPT of one linear layer against the released column sweep, and the errors it must beat."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.score import GroupScore
from prunus.select.nm import nm
from prunus.select.per_group import per_group
from prunus.select.per_output import per_output
from prunus.weights.magnitude import magnitude
from prunus.weights.sparsegpt import sparsegpt
from prunus.weights.wanda import wanda

pytestmark = pytest.mark.golden("sparsegpt--linear")


@pytest.fixture
def layer(case):
    inputs = torch.from_numpy(case["X"]).double()
    rows = inputs.flatten(0, 1)
    hessian = 2 * rows.T @ rows / len(inputs)
    return SimpleNamespace(
        name="linear", taps=1, weight=torch.from_numpy(case["W"]), hessian=hessian, input_norm=rows.norm(dim=0).float()
    )


def _error(case, new):
    return float(((case["X"].astype(np.float64) @ (case["W"] - new).T.astype(np.float64)) ** 2).sum())


def _same(ours, released):
    mask, new = ours
    np.testing.assert_array_equal(mask, released != 0)
    np.testing.assert_allclose(new, released, atol=1e-5)


def _official(case, layer, block):
    options = {"damp": case.value("percdamp"), "parity": "official", "sparsity": case.value("ratio")}
    return sparsegpt(layer, layer.weight.numel(), block=block, **options)


def test_hessian(case, layer):
    np.testing.assert_allclose(layer.hessian, case["H"], rtol=1e-4, atol=1e-5)


def test_unstructured(case, layer):
    found = _official(case, layer, case.value("blocksize"))
    _same(found, case["W_unstructured"])
    assert _error(case, found[1]) == pytest.approx(case.value("err_unstructured"), rel=1e-4)
    _same(_official(case, layer, layer.weight.shape[1]), case["W_unstructured_oneblock"])


def test_n_of_m(case, layer):
    patterns = [(name, re.fullmatch(r"W_(\d+)of(\d+)", name)) for name in case]
    assert any(match for _, match in patterns)
    for name, match in patterns:
        if not match:
            continue
        gone, m = int(match[1]), int(match[2])
        found = sparsegpt(layer, (m - gone, m), block=case.value("blocksize"), damp=case.value("percdamp"))
        _same(found, case[name])
        if f"err_{gone}of{m}" in case:
            assert _error(case, found[1]) == pytest.approx(case.value(f"err_{gone}of{m}"), rel=1e-4)


def test_errors_of_the_rivals(case, layer):
    weight, ratio = case["W"], case.value("ratio")
    outputs, inputs = weight.shape
    metric = GroupScore(wanda(layer).numpy(), np.arange(weight.size))
    size = GroupScore(magnitude(layer).numpy(), np.arange(weight.size))
    kept = {
        "err_wanda_unstructured": per_output(metric, outputs * (inputs - int(inputs * ratio))),
        "err_wanda_2of4": nm(metric, 0, n=2, m=4),
        "err_magnitude": per_group(size, weight.size - int(weight.size * ratio), parity="official"),
    }
    for name, positions in kept.items():
        mask = np.zeros(weight.size, dtype=bool)
        mask[positions] = True
        error = _error(case, weight * mask.reshape(weight.shape))
        assert error == pytest.approx(case.value(name), rel=1e-4), name
        assert _error(case, sparsegpt(layer, int(mask.sum()))[1]) < error


def test_our_default_has_the_exact_count(case, layer):
    for count in (100, layer.weight.numel() // 2):
        mask, new = sparsegpt(layer, count, block=case.value("blocksize"))
        assert mask.sum() == count
        assert not new[~mask].any()
