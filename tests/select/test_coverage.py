"""The coverage curve: against brute force, and weakly better when points are added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput, NonFinite
from prunus.select import coverage


def points(n, seed=0, d=3):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_against_brute_force(monkeypatch):
    monkeypatch.setattr(coverage, "BLOCK", 7)
    monkeypatch.setattr(coverage, "KEPT_BLOCK", 4)
    x, kept = points(40), points(11, seed=1)
    distances = np.linalg.norm(x[:, None].astype(float) - kept[None], axis=-1).min(1)
    np.testing.assert_allclose(coverage.nearest(x, kept), distances, atol=1e-6)
    np.testing.assert_allclose(coverage.coverage_curve(x, kept), np.sort(distances), atol=1e-6)
    assert coverage.auc_pr(x, kept) == pytest.approx(distances.mean())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), m=st.integers(1, 10), more=st.integers(0, 5))
def test_more_kept_points_never_cover_less(seed, m, more):
    x, kept = points(30, seed), points(m + more, seed + 1)
    assert coverage.auc_pr(x, kept) <= coverage.auc_pr(x, kept[:m]) + 1e-9
    assert (coverage.coverage_curve(x, kept) <= coverage.coverage_curve(x, kept[:m]) + 1e-9).all()


def test_kept_points_cover_themselves():
    assert coverage.auc_pr(points(20), points(20)) == pytest.approx(0.0, abs=1e-3)


def test_refusals():
    with pytest.raises(BadInput, match=r"\(0, 3\)"):
        coverage.auc_pr(points(4), points(0))
    with pytest.raises(NonFinite, match="1 points"):
        coverage.auc_pr(np.array([[np.nan, 0, 0]]), points(2))
