"""Normalisation keeps the order inside a group and puts groups on one scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.channels.normalise import normalise
from prunus.core.errors import NonFinite, UnknownName

HOW = ["none", "mean", "sum", "max", "zscore", "isomorphic"]
groups = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=8), min_size=1, max_size=4)


@given(values=groups, how=st.sampled_from(HOW))
@settings(max_examples=60, deadline=None)
def test_order_inside_a_group_stays(values, how):
    scores = {f"g{i}": np.array(v, dtype=float) for i, v in enumerate(values)}
    for name, new in normalise(scores, how).items():
        old = scores[name]
        up = old[:, None] > old[None]
        assert np.isfinite(new).all()
        assert (np.diff(new[np.argsort(old)]) >= 0).all()
        assert new.max() == 0 or (new[:, None] > new[None])[up].all()


def test_scales():
    scores = {"a": np.array([1.0, 3.0]), "b": np.array([10.0, 20.0, 60.0])}
    assert normalise(scores, "mean")["b"].mean() == pytest.approx(1)
    assert normalise(scores, "sum")["a"].tolist() == [0.25, 0.75]
    assert normalise(scores, "max")["b"].max() == 1
    z = normalise(scores, "zscore")["b"]
    assert (z.mean(), z.std(ddof=1)) == (pytest.approx(0), pytest.approx(1))


def test_a_flat_group_scores_zero():
    assert normalise({"a": np.full(3, 7.0)}, "zscore")["a"].tolist() == [0, 0, 0]
    assert normalise({"a": np.zeros(3)}, "mean")["a"].tolist() == [0, 0, 0]


def test_isomorphic_ranks_inside_a_kind_only():
    scores = {"a": np.array([1.0, 4.0]), "b": np.array([2.0, 3.0]), "c": np.array([100.0, 200.0])}
    ranks = normalise(scores, "isomorphic", {"a": "conv", "b": "conv", "c": "head"})
    assert ranks["a"].tolist() == [0, 0.75]
    assert ranks["b"].tolist() == [0.25, 0.5]
    assert ranks["c"].tolist() == [0, 0.5]


def test_errors_name_what_was_wrong():
    with pytest.raises(UnknownName, match=r"zscore"):
        normalise({"a": np.ones(2)}, "z-score")
    with pytest.raises(NonFinite, match=r"of a are"):
        normalise({"a": np.array([1.0, np.nan])}, "mean")
