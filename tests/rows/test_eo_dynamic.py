"""Dynamic curation: sizes, balance, periods, collapse, rows without embedding, resuming, refusals; the filling of levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.core.errors import BadInput, BudgetUnreachable, IdMismatch
from prunus.rows.eo_dynamic import EODynamic
from prunus.rows.hierarchy import fill

SIZES = (300, 60, 30, 10)
OF = np.repeat(np.arange(4), SIZES)
X = (np.eye(4)[OF] * 5 + np.random.default_rng(0).normal(size=(400, 4))).astype(np.float32)
IDS = np.random.default_rng(1).permutation(400) * 3


def embed(ids):
    return torch.from_numpy(X[ids // 3])


def made(**options):
    return EODynamic(IDS, **{"fraction": 0.3, "clusters": (16, 4), "embed": embed} | options)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_filling_is_as_equal_as_sizes_allow(sizes, data):
    sizes = np.array(sizes)
    total = data.draw(st.integers(0, int(sizes.sum())))
    counts = fill(sizes, total, np.random.default_rng(0).permutation(sizes.size))
    level = max(c for c in range(11) if np.minimum(c, sizes).sum() <= total)
    assert counts.sum() == total
    assert (counts >= np.minimum(level, sizes)).all()
    assert (counts <= np.minimum(level + 1, sizes)).all()


def test_rows_are_balanced_over_what_the_model_sees():
    plan = made(warmup=1).epoch(1)
    assert plan.ids.size == np.unique(plan.ids).size == 120
    shares = np.bincount(OF[plan.ids // 3], minlength=4) / 120
    assert shares[1:].sum() > 1.5 * sum(SIZES[1:]) / 400
    assert shares[3] > 1.5 * SIZES[3] / 400


def test_periods():
    calls = []
    method = made(epochs=8, warmup=2, every=2, final_full=1, embed=lambda ids: calls.append(len(ids)) or embed(ids))
    plans = [method.epoch(t).ids.tolist() for t in range(8)]
    assert [len(plan) for plan in plans] == [400, 400, 120, 120, 120, 120, 120, 400]
    assert plans[2] == plans[3] != plans[4] == plans[5] != plans[6]
    assert calls == [400, 400, 400]
    with pytest.raises(BadInput, match="epoch 2 is over"):
        method.epoch(2)


def test_all_rows_and_rows_without_an_embedding():
    assert len(made(fraction=1.0).epoch(1)) == 400

    def broken(ids):
        found = embed(ids).clone()
        found[:3], found[3:5] = float("nan"), 0.0
        return found

    plan = made(embed=broken).epoch(1)
    assert len(plan) == 120
    assert set(np.sort(IDS)[:5]) <= set(plan.ids)


def test_collapsed_embeddings_prune_nothing():
    with pytest.warns(UserWarning, match="collapsed"):
        assert len(made(embed=lambda ids: np.ones((len(ids), 4)) + 1e-3 * X[ids // 3]).epoch(1)) == 400


@pytest.mark.parametrize("eta", [-np.inf, -2.0, 2.0, np.inf])
def test_eta_favours_near_or_far_rows(eta):
    def distance(method):
        rows = method.epoch(1).ids // 3
        return np.mean([1 - np.dot(X[r], np.eye(4)[OF[r]]) / np.linalg.norm(X[r]) for r in rows])

    even = distance(made(clusters=(4,)))
    assert (distance(made(clusters=(4,), eta=eta)) > even) == (eta > 0)


def test_resuming_in_the_middle_of_a_period():
    first = made(every=3)
    expected = [first.epoch(t).ids.tolist() for t in range(3)]
    state = first.state_dict()
    again = made(every=3, embed=None)  # the embeddings of then are not needed any more
    again.load_state_dict(state)
    assert again.epoch(2).ids.tolist() == again.epoch(3).ids.tolist() == expected[2]
    assert again.size(3) == 120
    with pytest.raises(BadInput, match=r"'seed': 0.*'seed': 1"):
        made(every=3, seed=1).load_state_dict(state)
    with pytest.raises(IdMismatch, match="400 of them, now there are 399"):
        EODynamic(IDS[1:], count=120, clusters=(16, 4), every=3).load_state_dict(state)


def test_refusals():
    with pytest.raises(BadInput, match="give embed="):
        made(embed=None).epoch(1)
    with pytest.raises(BadInput, match=r"\[400, d\]"):
        made(embed=lambda ids: X[:7]).epoch(1)
    with pytest.raises(BadInput, match="give epochs"):
        made(final_full=1)
    with pytest.raises(BadInput, match="can't be"):
        made(every=0)
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 400 rows"):
        made(count=401)
