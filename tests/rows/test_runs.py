"""Mean and stability of the scores of several runs."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput, IdMismatch
from prunus.core.score import Score
from prunus.rows import runs


def score(values, ids=None, sense="hard", **provenance):
    ids = np.arange(len(values)) if ids is None else np.asarray(ids)
    return Score("rows", {"all": np.asarray(values, dtype=np.float32)}, sense, {"all": ids}, "f", provenance)


def test_mean_aligns_by_id():
    mean = runs.mean([score([1, 2, 3], seed=0), score([30, 20, 10], [2, 1, 0], seed=1)])
    assert mean.values["all"].tolist() == [5.5, 11.0, 16.5]
    assert mean.values["all"].dtype == np.float32
    assert [run["seed"] for run in mean.provenance["runs"]] == [0, 1]


def test_mean_of_the_same_run_is_the_run():
    one = score([0.1, 0.7, 0.3])
    assert (runs.mean([one, one, one]).values["all"] == one.values["all"]).all()


def test_stability():
    one = score([1, 2, 3, 4])
    assert runs.stability([one, score([10, 20, 30, 40])]) == pytest.approx(1.0)
    assert runs.stability([one, score([4, 3, 2, 1])]) == pytest.approx(-1.0)
    assert runs.stability([one, score([1, 2, 4, 3]), one]) == pytest.approx((0.8 + 1 + 0.8) / 3)


def test_refusals():
    one = score([1, 2])
    with pytest.raises(BadInput, match="no scores"):
        runs.mean([])
    with pytest.raises(BadInput, match="two runs"):
        runs.stability([one])
    with pytest.raises(BadInput, match="differ"):
        runs.mean([one, score([1, 2], sense="easy")])
    with pytest.raises(IdMismatch, match="different ids"):
        runs.mean([one, score([1, 2], [0, 5])])
