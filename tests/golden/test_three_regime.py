"""Similarities by the authors' CKA code, statistics of paths, and mode connectivity by an independent derivation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.maths.cka import kernel_cka, linear_cka, linear_kernel, rbf_kernel
from prunus.maths.connectivity import agreement, jensen_shannon, mode_connectivity, path_statistics

pytestmark = pytest.mark.golden("three-regime--cka-and-connectivity")
CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def pairs(case):
    return sorted({name.partition("/")[2] for name in case if name.startswith("cka_")})


def test_cka(case):
    assert len(pairs(case)) >= 2
    for pair in pairs(case):
        x, y = (torch.from_numpy(case[side]) for side in pair)
        kernels = linear_kernel(x), linear_kernel(y)
        found = {
            "cka_feature": linear_cka(x, y),
            "cka_feature_debiased": linear_cka(x, y, debiased=True),
            "cka_gram": kernel_cka(*kernels),
            "cka_gram_debiased": kernel_cka(*kernels, debiased=True),
            "cka_rbf": kernel_cka(rbf_kernel(x), rbf_kernel(y)),
        }
        for name, value in found.items():
            np.testing.assert_allclose(value, case[f"{name}/{pair}"], err_msg=f"{name}/{pair}", **CLOSE)


def test_outputs(case):
    logits = case["logits1"], case["logits2"]
    np.testing.assert_allclose(jensen_shannon(*logits), case["js"], **CLOSE)
    np.testing.assert_allclose(agreement(*logits), case["agreement"], rtol=1e-6)  # the case holds a float32


def test_path(case):
    found = path_statistics(case["curve_err"], case["curve_dl"])
    statistics = found.least, found.most, found.mean, found.integral
    np.testing.assert_allclose(statistics, case["curve_stats"], **CLOSE)
    np.testing.assert_allclose(mode_connectivity(case["curve_err"]), case["mode_connectivity"], **CLOSE)
