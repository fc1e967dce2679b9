"""Normalisation keeps the order inside a group and puts groups on one scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.channels.normalise import normalise
from prunus.core.errors import BadInput, NonFinite, UnknownName

HOW = ["none", "mean", "sum", "max", "minmax", "zscore", "lamp", "kl", "isomorphic"]
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


def test_shares_of_what_is_left():
    scores = {"a": np.array([1.0, 3.0, 1.0, 5.0])}
    np.testing.assert_allclose(normalise(scores, "lamp")["a"], [0.1, 3 / 8, 0.1, 1.0])
    kl = normalise(scores, "kl")["a"]
    np.testing.assert_allclose(kl[:3], -np.log([0.8, 0.5, 0.8]))
    assert kl[3] > 700
    p, q = np.array([1, 3, 1, 5]) / 10, np.array([0, 3, 0, 5]) / 8
    assert kl[0] == pytest.approx(sum(q[i] * np.log(q[i] / p[i]) for i in (1, 3)))
    for how in ("lamp", "kl"):
        with pytest.raises(BadInput, match="group a has -1"):
            normalise({"a": np.array([-1.0, 2.0])}, how)


def test_minmax():
    assert normalise({"a": np.array([2.0, 4.0, 3.0])}, "minmax")["a"].tolist() == [0, 1, 0.5]
    assert normalise({"a": np.full(3, 7.0), "b": np.ones(1)}, "minmax")["a"].tolist() == [0, 0, 0]


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
