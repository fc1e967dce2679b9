"""Loss weights: from the selector into the plan, from the plan onto the rows, from the rows into training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import prunus as px
from prunus.core.errors import BadInput, IdMismatch
from prunus.core.plan import Plan
from prunus.flow.controls import random_like
from prunus.flow.rows import plan_rows, score_rows
from prunus.prunables.dataset import Dataset
from prunus.select import craig, grad_match
from prunus.train.models import seeded

WEIGHERS = {"craig": craig.weights, "grad_match": grad_match.weights}


def rows(order: np.ndarray | None = None) -> tuple[Dataset, px.Signals]:
    """60 rows of three classes, 30, 20 and 10 of them, under ids in no order."""
    draw = np.random.RandomState(0)
    x, y = draw.randn(60, 6).astype(np.float32), np.repeat([0, 1, 2], [30, 20, 10])
    probs = np.exp(draw.randn(60, 3))
    probs = (probs / probs.sum(1, keepdims=True)).astype(np.float32)
    ids, at = 100 + draw.permutation(60), np.arange(60) if order is None else order
    data = Dataset((x[at], y[at]), ids=ids[at], name="weighed")
    return data, px.Signals(ids=ids[at], probs=probs[at], labels=y[at], embedding=x[at])


def plan(name: str = "craig", order: np.ndarray | None = None, budget: str = "15 rows", **options) -> Plan:
    data, signals = rows(order)
    return px.plan(px.score(data, "el2n", signals=signals), budget, select=name, **options)


@pytest.mark.parametrize("name", WEIGHERS)
def test_a_plan_carries_its_selectors_weights_with_mean_one(name):
    data, signals = rows()
    made = plan(name)
    group = score_rows(data, "el2n", signals=signals).group("rows")
    at = data.positions(made.keep())
    own = WEIGHERS[name](group, at)
    np.testing.assert_allclose(made.weights["rows"], own * 15 / own.sum(), rtol=1e-6)
    assert made.weights["rows"].dtype == np.float32
    assert made.weights["rows"].mean() == pytest.approx(1, rel=1e-6)
    assert plan(name, weights=False).weights == {} and plan("k_center").weights == {}
    np.testing.assert_array_equal(plan(name, weights=False).keep(), made.keep())


@pytest.mark.parametrize("name", WEIGHERS)
def test_weights_follow_their_rows_and_survive_the_files(name, tmp_path):
    made = plan(name)
    moved = plan(name, np.random.RandomState(3).permutation(60))
    assert moved.hash() == replace(made, fingerprint=moved.fingerprint).hash()
    again = Plan.load(made.save(tmp_path))
    assert again.hash() == made.hash()
    np.testing.assert_array_equal(again.weights["rows"], made.weights["rows"])
    assert replace(made, weights={}).hash() != made.hash()


def test_craig_weighs_a_class_by_its_rows_and_grad_match_too():
    for name in WEIGHERS:
        made, (data, _) = plan(name), rows()
        labels = data.labels[data.positions(made.keep())]
        shares = [made.weights["rows"][labels == c].sum() / 15 for c in range(3)]
        assert sorted(shares, reverse=True) == shares  # 30, 20 and 10 rows
        if name == "craig":
            np.testing.assert_allclose(shares, [1 / 2, 1 / 3, 1 / 6], rtol=1e-6)


def test_banned_rows_are_not_stood_for_and_pinned_ones_have_a_weight():
    data, _ = rows()
    banned, pinned = data.ids[:10].tolist(), data.ids[30:31].tolist()  # ten of the thirty rows of class 0
    made = plan("craig", ban=banned, pin=pinned)
    labels = data.labels[data.positions(made.keep())]
    shares = [made.weights["rows"][labels == c].sum() / 15 for c in range(3)]
    np.testing.assert_allclose(shares, [2 / 5, 2 / 5, 1 / 5], rtol=1e-6)
    assert made.loss_weights(np.array(pinned)) > 0


def test_a_chain_weighs_by_its_last_selector_and_an_allocated_plan_as_a_whole():
    chained = plan(["k_center", "craig"])
    assert chained.weights["rows"].mean() == pytest.approx(1, rel=1e-6)
    assert plan(["craig", "k_center"]).weights == {}
    data, signals = rows()
    score = px.score(data, "el2n", signals=signals)
    split = plan_rows(score, "15 rows", select="craig", allocate="uniform")
    assert split.weights["rows"].sum() == pytest.approx(15, rel=1e-6)


def test_weights_of_some_rows_and_of_rows_that_are_not_kept():
    made = plan()
    kept = made.keep()[::-2]
    np.testing.assert_array_equal(made.loss_weights(kept), made.weights["rows"][::-2])
    assert (replace(made, weights={}).loss_weights() == 1).all()
    with pytest.raises(IdMismatch, match="no weight"):
        made.loss_weights(made.dropped()[:1])
    with pytest.raises(BadInput, match="15 rows stay in rows"):
        replace(made, weights={"rows": np.ones(14, np.float32)})


def test_a_plan_after_another_keeps_the_weights_of_what_is_left():
    made, parent = plan(budget="30 rows"), plan("k_center", budget="40 rows")
    after = made.after(parent)
    left = after.keep()
    assert 0 < left.size < 30
    np.testing.assert_array_equal(after.weights["rows"], made.loss_weights(left))


def test_controls_have_no_weights():
    assert random_like(plan(), 0).weights == {}


def test_rows_carry_their_weights_whatever_is_done_with_them():
    data, _ = rows()
    made = plan()
    fewer = made.apply(data)
    np.testing.assert_array_equal(fewer.loss_weights, made.loss_weights(fewer.ids))
    part = fewer.subset(fewer.ids[[4, 1]])
    np.testing.assert_array_equal(part.loss_weights, fewer.loss_weights[[4, 1]])
    assert fewer.with_role("val").loss_weights is fewer.loss_weights
    assert data.loss_weights is None and plan("k_center").apply(data).loss_weights is None
    assert fewer.fingerprint() != replace(made, weights={}).apply(data).fingerprint()


def net() -> torch.nn.Module:
    return seeded(torch.nn.Linear, 0, 6, 3)


def test_training_on_the_rows_counts_them_by_their_weights():
    data, _ = rows()
    made = plan()
    settings = {"steps": 3, "batch": 8, "lr": 0.1}
    by_rows, by_hand, alike = net(), net(), net()
    px.fit(by_rows, made.apply(data), **settings)
    weights = dict(zip(made.keep().tolist(), made.weights["rows"].tolist()))
    px.fit(by_hand, replace(made, weights={}).apply(data), weights=weights, **settings)
    px.fit(alike, replace(made, weights={}).apply(data), **settings)
    assert torch.equal(by_rows.weight, by_hand.weight) and not torch.equal(by_rows.weight, alike.weight)
    recovered = px.recover(net(), plan=made, data=data, how="finetune", nesterov=True, **settings)
    torch.testing.assert_close(recovered.weight, by_rows.weight)


def test_rows_chosen_while_training_keep_their_weights():
    class Every:
        """All rows, each epoch."""

        def epoch(self, t):
            return type("EpochPlan", (), {"ids": fewer.ids, "weights": None})

        def seen(self, ids, loss):
            pass

        def state_dict(self):
            return {}

    fewer = plan().apply(rows()[0])
    chosen, plain = net(), net()
    px.fit(chosen, fewer, steps=3, batch=8, dynamic=Every())
    px.fit(plain, fewer, steps=3, batch=8)
    assert torch.equal(chosen.weight, plain.weight)


def test_weights_that_are_all_zero_leave_the_rows_alike(monkeypatch):
    monkeypatch.setattr(craig, "weights", lambda score, kept: np.zeros(kept.size))
    with pytest.warns(UserWarning, match="every weight of select/craig is 0"):
        assert plan().weights == {}
