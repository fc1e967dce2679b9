"""Budgets split over classes and clusters: floors, recalls, what is refused, and what the plan states."""

from __future__ import annotations

import numpy as np
import pytest

import prunus as px
from prunus.allocate.by_recall import by_recall
from prunus.allocate.request import Request
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.plan import Plan
from prunus.flow.split import recalls

SIZES = (60, 30, 10)
LABELS = np.repeat([0, 1, 2], SIZES)


def rows(labels=LABELS):
    draw = np.random.default_rng(0)
    x = draw.standard_normal((100, 4)) + 6 * np.eye(4)[np.arange(100) % 4]
    data = px.Dataset(x if labels is None else (x, labels), ids=np.arange(100))
    fields = {"embedding": x} | ({} if labels is None else {"labels": labels})
    return px.score(data, "random", signals=px.Signals(np.arange(100), **fields)), data


def validation(right=(0.9, 0.5, 0.0)):
    labels = np.repeat([0, 1, 2], 10)
    predicted = np.concatenate([np.where(np.arange(10) < 10 * r, k, (k + 1) % 3) for k, r in enumerate(right)])
    return px.Signals(np.arange(30), probs=np.eye(3)[predicted], labels=labels)


def counts(plan: Plan) -> list[int]:
    return np.bincount(LABELS[plan.keep()], minlength=3).tolist()


def test_quotas_by_recall():
    # 60 * 0.1, 30 * 0.5, 10 * 1.0 = 6 : 15 : 10
    plan = px.plan(rows()[0], "25 rows", select="random", allocate="by_recall", val=validation())
    assert counts(plan) == [5, 12, 8]
    assert plan.provenance["allocate"] == "by_recall"
    full = px.plan(rows()[0], "50 rows", select="random", allocate="by_recall", val=validation())
    assert counts(full) == [11, 29, 10]  # the third class is full: 40 in the ratio 6 : 15, at most 30 of the second


def test_a_class_of_recall_1_keeps_its_floor():
    request = Request.of(SIZES, 30, floors=1, recalls=[1.0, 0.5, 0.5])
    assert by_recall(request).tolist() == [1, 22, 7]
    assert by_recall(Request.of(SIZES, 60, recalls=[1.0, 0.5, 0.5])).tolist() == [20, 30, 10]
    assert by_recall(Request.of(SIZES, 10), recall=(1.0, 1.0, 1.0)).tolist() == [6, 3, 1]


@pytest.mark.parametrize("recall", [None, (0.5, 0.5), (0.5, 0.5, 1.5), (0.5, 0.5, float("nan"))])
def test_recalls_that_are_none(recall):
    with pytest.raises(BadInput, match="recall"):
        by_recall(Request.of(SIZES, 10), recall=recall)


def test_recalls_are_measured():
    np.testing.assert_allclose(recalls(validation(), ["0", "1", "2"]), [0.9, 0.5, 0.0])
    with pytest.raises(BadInput, match="classes \\['3'\\] have no validation rows"):
        recalls(validation(), ["0", "1", "2", "3"])
    with pytest.raises(BadInput, match="need probs"):
        recalls(px.Signals([1], labels=[0]), ["0"])


def test_over_clusters():
    score, _ = rows()
    plan = px.plan(score, "40 rows", select="random", allocate="proportional", power=0.0, over="clusters:4")
    kept = np.bincount(np.arange(100)[plan.keep()] % 4, minlength=4)
    assert kept.tolist() == [10, 10, 10, 10]  # the four blobs
    told = {"allocate": "proportional", "over": "clusters:4", "allocate_options": {"power": 0.0}}
    assert {name: plan.provenance[name] for name in told} == told
    unlabelled, _ = rows(None)
    assert px.plan(unlabelled, "40 rows", select="random", allocate="uniform", over="clusters").keep().size == 40
    with pytest.raises(BadInput, match="over='clusters'"):
        px.plan(unlabelled, "40 rows", select="random", allocate="uniform")
    for wrong in ("clusters:0", "clusters:x", "labels"):
        with pytest.raises(BadInput, match="clusters:NUMBER"):
            px.plan(score, "40 rows", select="random", allocate="uniform", over=wrong)
    with pytest.raises(BadInput, match="name one"):
        px.plan(score, "40 rows", select="random", over="clusters")


def test_clusters_follow_the_rows():
    score, _ = rows()
    order = np.random.default_rng(2).permutation(100)
    moved = px.Score(
        score.unit,
        {"rows": score.values["rows"][order]},
        score.sense,
        {"rows": order},
        "",
        {},
        score.signals.take(order),
    )
    options = {"select": "random", "allocate": "uniform", "over": "clusters:3"}
    np.testing.assert_array_equal(
        px.plan(moved, "30 rows", **options).keep(), px.plan(score, "30 rows", **options).keep()
    )


def test_floors():
    score, _ = rows()
    plan = px.plan(score, "50 rows", select="random", allocate="uniform", floor=12)
    assert counts(plan) == [27, 13, 10]
    assert plan.provenance["notes"] == {"floor": "1 have fewer than 12 rows and keep all: ['2']"}
    assert "notes" not in px.plan(score, "50 rows", select="random", allocate="uniform").provenance
    with pytest.raises(BudgetUnreachable, match="floors need"):
        px.plan(score, "20 rows", select="random", allocate="uniform", floor=12)
    assert px.plan(score, "2 rows", select="random", allocate="uniform").keep().size == 2
