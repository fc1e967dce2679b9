"""EoRA of one matrix against the released eigenspace step, its covariance recurrence and its three errors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.compensate.eora import eora
from prunus.maths.low_rank import low_rank

pytestmark = pytest.mark.golden("eora--compensate")


def released_covariance(inputs, count):
    """C <- C n / (n + 1) + X^T X / n for each sequence: early ones decay, which our plain sum doesn't do."""
    total = np.zeros((inputs.shape[-1],) * 2)
    for rows in inputs.astype(np.float64):
        total = total * count / (count + 1) + rows.T @ rows / count
    return total


@pytest.fixture
def layer(case):
    return SimpleNamespace(
        name="linear", weight=torch.from_numpy(case["W"]), hessian=torch.from_numpy(case["covariance"])
    )


@pytest.fixture
def plain(case, layer):
    rows = case["X"].reshape(-1, case["X"].shape[-1]).astype(np.float64)
    return SimpleNamespace(name="linear", weight=layer.weight, hessian=torch.from_numpy(2 * rows.T @ rows))


def error(case, added):
    missed = case["W"].astype(np.float64) - case["W_compressed"] - added
    return float(((case["X"].astype(np.float64) @ missed.T) ** 2).sum())


def path(case, layer, **options):
    a, b = eora(layer, case["W_compressed"], rank=case.value("rank"), **options)
    return b @ a


def test_the_path(case, layer):
    a, b = eora(layer, case["W_compressed"], rank=case.value("rank"))
    np.testing.assert_allclose(b @ a, case["BA"], atol=2e-5)
    np.testing.assert_allclose(case["W_compressed"] + b @ a, case["W_compensated"], atol=2e-5)
    # Single columns are defined up to a sign, and mixed where singular values meet: their lengths are not.
    np.testing.assert_allclose(np.linalg.norm(b, axis=0), np.linalg.norm(case["lora_B"], axis=0), rtol=1e-3)
    lengths = [
        np.sqrt(np.einsum("ri,ij,rj->r", part, layer.hessian.double().numpy(), part)) for part in (a, case["lora_A"])
    ]
    np.testing.assert_allclose(*lengths, rtol=1e-3)


def test_covariance_eigenvalues_and_singular_values(case, layer):
    theirs = released_covariance(case["X"], case.value("eigen_nsamples"))
    np.testing.assert_allclose(theirs, case["covariance"], rtol=1e-4, atol=1e-5 * abs(theirs).max())
    delta = layer.weight - torch.from_numpy(case["W_compressed"])
    found = low_rank(delta, case.value("rank"), layer.hessian)
    largest = case["eigenvalues"].max()
    np.testing.assert_allclose(found.eigenvalues, case["eigenvalues"], rtol=1e-4, atol=1e-6 * largest)
    np.testing.assert_allclose(found.singular, case["singular_values"], rtol=1e-4, atol=1e-5 * found.singular[0])


def test_errors(case, layer, plain):
    assert error(case, 0) == pytest.approx(case.value("err_compressed"), rel=1e-3)
    assert error(case, path(case, layer, space="plain")) == pytest.approx(case.value("err_svd"), rel=1e-3)
    assert error(case, path(case, layer)) == pytest.approx(case.value("err_eora"), rel=1e-3)
    ours = error(case, path(case, plain))
    assert ours <= error(case, path(case, plain, space="plain")) * (1 + 1e-9)
    assert ours <= error(case, path(case, layer)) * (1 + 1e-9), "the plain sum is the metric of the error itself"


def test_the_residual_is_the_tail_and_full_rank_gives_the_layer_back(case, plain):
    most = min(case["W"].shape)
    delta = plain.weight - torch.from_numpy(case["W_compressed"])
    before = np.inf
    for rank in range(1, most + 1):
        a, b = eora(plain, case["W_compressed"], rank=rank)
        now = error(case, b @ a)
        tail = float((low_rank(delta, rank, plain.hessian).singular[rank:] ** 2).sum()) / 2
        assert now == pytest.approx(tail, rel=1e-6, abs=1e-6 * case.value("err_compressed"))
        assert now <= before * (1 + 1e-9)
        before = now
    np.testing.assert_allclose(b @ a, delta, atol=1e-4)
