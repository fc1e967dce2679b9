"""Wanda on one linear layer against the released statistics and pruning loop."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.score import GroupScore
from prunus.select.cumulative import cumulative
from prunus.select.nm import nm
from prunus.select.per_output import per_output
from prunus.weights.magnitude import magnitude
from prunus.weights.wanda import wanda

pytestmark = pytest.mark.golden("wanda--linear")


def _pruned(weight, kept):
    mask = np.zeros(weight.size, dtype=bool)
    mask[kept] = True
    return np.where(mask.reshape(weight.shape), weight, 0)


@pytest.fixture
def score(case):
    inputs = torch.from_numpy(case["X"])
    norm = (inputs.square().sum((0, 1)) / len(inputs)).sqrt()
    values = wanda(SimpleNamespace(weight=torch.from_numpy(case["W"]), input_norm=norm)).numpy()
    return GroupScore(values, np.arange(values.size))


def test_statistics_and_metric(case, score):
    inputs = case["X"].astype(np.float64)
    np.testing.assert_allclose((inputs**2).sum((0, 1)) / len(inputs), case["scaler_row"], rtol=1e-6)
    np.testing.assert_allclose(score.values, case["metric"], rtol=1e-6)


def test_unstructured_within_each_output(case, score):
    outputs, inputs = case["W"].shape
    kept = per_output(score, outputs * (inputs - int(inputs * case.value("ratio"))))
    np.testing.assert_allclose(_pruned(case["W"], kept), case["W_unstructured"], rtol=1e-6)


def test_n_of_m(case, score):
    patterns = {name: re.fullmatch(r"W_(\d+)of(\d+)", name) for name in case}
    patterns = {name: (int(p[1]), int(p[2])) for name, p in patterns.items() if p}
    assert patterns
    for name, (gone, m) in patterns.items():
        np.testing.assert_allclose(_pruned(case["W"], nm(score, 0, n=m - gone, m=m)), case[name], rtol=1e-6)


def test_variant(case, score):
    ratio = case.value("ratio")
    kept = cumulative(score, round(score.values.size * (1 - ratio)), parity="official", sparsity=ratio)
    np.testing.assert_allclose(_pruned(case["W"], kept), case["W_variant"], rtol=1e-6)


def test_our_variant_has_the_exact_count_and_nearly_the_same_weights(case, score):
    released = np.flatnonzero(case["W_variant"])
    kept = cumulative(score, released.size)
    assert kept.size == released.size
    assert np.setdiff1d(kept, released).size <= 0.01 * score.values.size + 1


def test_ties_by_count(case):
    weight = case["W_ties"]
    values = magnitude(SimpleNamespace(weight=torch.from_numpy(weight))).numpy()
    kept = nm(GroupScore(values, np.arange(weight.size)), 0, n=2, m=4)
    groups = (len(weight), -1, 4)
    ours, released = _pruned(weight, kept).reshape(groups), case["W_ties_mag_nm24"].reshape(groups)
    mask = np.zeros(weight.size, dtype=bool)
    mask[kept] = True
    assert (mask.reshape(groups).sum(-1) == 2).all()
    np.testing.assert_array_equal(np.sort(np.abs(ours), -1), np.sort(np.abs(released), -1))
    np.testing.assert_array_equal(kept, nm(GroupScore(values, np.arange(weight.size)), weight.size // 2, m=4))
