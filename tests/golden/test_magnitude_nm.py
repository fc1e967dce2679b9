"""Magnitude of one linear layer against the released functions of Wanda's repository."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.score import GroupScore
from prunus.select.nm import nm
from prunus.select.per_group import per_group
from prunus.weights.magnitude import magnitude

pytestmark = pytest.mark.golden("magnitude-nm--linear")


def _pruned(weight, kept):
    mask = np.zeros(weight.size, dtype=bool)
    mask[kept] = True
    return np.where(mask.reshape(weight.shape), weight, 0)


def _score(weight):
    return GroupScore(magnitude(SimpleNamespace(weight=torch.from_numpy(weight))).numpy(), np.arange(weight.size))


def test_unstructured_by_the_released_threshold(case):
    weight = case["W"]
    count = weight.size - int(weight.size * case.value("ratio"))
    kept = per_group(_score(weight), count, parity="official")
    np.testing.assert_array_equal(_pruned(weight, kept), case["W_unstructured"])


def test_unstructured_exactly(case):
    weight = case["W"]
    count = weight.size - int(weight.size * case.value("ratio"))
    kept = per_group(_score(weight), count)
    released = np.flatnonzero(case["W_unstructured"])
    assert kept.size == count
    assert set(released) <= set(kept), "the released threshold drops at least one weight more"


def test_n_of_m(case):
    weight = case["W"]
    patterns = {name: re.fullmatch(r"W_(\d+)of(\d+)", name) for name in case}
    patterns = {name: (int(p[1]), int(p[2])) for name, p in patterns.items() if p}
    assert patterns
    for name, (gone, m) in patterns.items():
        by_n = nm(_score(weight), 0, n=m - gone, m=m)
        by_count = nm(_score(weight), weight.size * (m - gone) // m, m=m)
        np.testing.assert_array_equal(_pruned(weight, by_n), case[name])
        np.testing.assert_array_equal(by_n, by_count)
