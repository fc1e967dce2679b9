"""Prototypes and the perceptron theory against an independent derivation."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.core.score import GroupScore
from prunus.maths import spherical
from prunus.maths.perceptron_theory import learned
from prunus.rows.prototypes import prototypes
from prunus.rows.supervised_prototypes import supervised_prototypes
from prunus.select.balanced import balanced
from prunus.select.top import top

pytestmark = [pytest.mark.golden("ssp--prototypes-and-theory"), pytest.mark.filterwarnings("ignore:below about 30")]
MODES = ("random", "hard", "easy")


def signals(case):
    rows = case["X"].shape[0]
    fields = {"embedding": torch.from_numpy(case["X"]), "labels": torch.from_numpy(case["labels"])}
    return SimpleNamespace(ids=np.arange(rows), **fields)


def test_theory(case):
    for alpha, kept, mode, overlap, margin, error in case["theory_rows"]:
        found = learned(float(alpha), float(kept), MODES[int(mode)])
        np.testing.assert_allclose(
            (found.overlap, found.margin, found.error), (overlap, margin, error), rtol=0, atol=1e-4
        )


def test_clusters_from_a_given_start(case):
    found = spherical.settle(case["X"], case["init_centroids"])
    np.testing.assert_allclose(found.centroids, case["final_centroids"], atol=1e-6)
    np.testing.assert_array_equal(found.assigned, case["assignment"])


def test_difficulty(case):
    np.testing.assert_allclose(
        prototypes(signals(case), init=case["init_centroids"]), case["difficulty_cosine"], atol=1e-6
    )
    np.testing.assert_allclose(supervised_prototypes(signals(case)), case["supervised_difficulty"], atol=1e-6)


def test_selections(case):
    s = signals(case)
    values = prototypes(s, init=case["init_centroids"]).numpy()
    score, keep = GroupScore(values, s.ids, "hard", s), int(case.value("keep"))
    unbalanced = np.sort(case["kept_hard_no_balance"])
    np.testing.assert_array_equal(np.sort(top(score, keep)), unbalanced)
    np.testing.assert_array_equal(np.sort(balanced(score, keep, balance=0.0, keep="hardest")), unbalanced)
    balance = float(case.value("balance"))
    found = balanced(score, keep, balance=balance, keep="hardest")
    np.testing.assert_array_equal(np.sort(found), np.sort(case["kept_hard_balanced"]))
    names, sizes = np.unique(case["labels"], return_counts=True)
    floor = int(case.value("per_class_floor"))
    assert floor == math.floor(balance * keep / names.size)
    kept = (case["labels"][found] == names[:, None]).sum(1)
    assert (kept >= np.minimum(floor, sizes)).all()
