"""Stratified: equal counts of every stratum, for scores of any sense; with no cut it is ccs."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.ccs import ccs, stratify
from prunus.select.stratified import stratified

RNG = Rng(1, "select/ccs")


@pytest.mark.parametrize("within", ["all", "class"])
@pytest.mark.parametrize("sense", ["hard", "keep"])
def test_equal_counts(sense, within):
    values = np.random.default_rng(0).gamma(1.0, size=400)
    labels = np.arange(400) % 2
    score = GroupScore(values, np.arange(400), sense, type("S", (), {"labels": labels, "take": _take(labels)})())
    kept = stratified(score, 60, strata=10, within=within, rng=RNG)
    for label in (0, 1) if within == "class" else (None,):
        here = np.ones(400, dtype=bool) if label is None else labels == label
        found = stratify(values[here], 10)
        count = np.bincount(found[np.isin(np.flatnonzero(here), kept)], minlength=10)
        size = np.bincount(found, minlength=10)
        assert (count >= np.minimum(size, count.max() - 1)).all()
    if sense == "hard" and within == "all":
        np.testing.assert_array_equal(kept, ccs(score, 60, hard_cut=0.0, strata=10, rng=RNG))


def _take(labels):
    return lambda self, at: type("S", (), {"labels": labels[at]})()


def test_refusals():
    score = GroupScore(np.arange(5.0), np.arange(5), "hard")
    for wrong in ({"strata": 0}, {"clip": 0.5}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            stratified(score, 2, rng=RNG, **wrong)
