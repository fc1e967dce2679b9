"""Curation metrics: the released nearest-neighbour evaluation and class-preserving cap, and counts derived independently."""

from __future__ import annotations

import numpy as np
import pytest

import prunus as px
from prunus.core.plan import Kept
from prunus.measure import class_counts as counts_of
from prunus.measure import knn
from prunus.measure.curation import curation

pytestmark = pytest.mark.golden("select--metrics")


def measured(case, **options):
    names = tuple(f"{label:04}" for label in range(int(case.value("num_label_set"))))
    rows = px.Dataset((case["train_features"], case["train_labels"]), classes=names)
    reference = px.Dataset((case["test_features"], case["test_labels"]), classes=names, role="val")
    plan = px.Plan("rows", {"rows": Kept.of_ids(rows.ids, len(rows), rows.ids)}, px.Budget.parse("100% rows"))
    settings = {"k": int(case.value("k")), "temperature": float(case.value("T")), **options}
    return curation(plan, rows, reference=reference, **settings)


def test_neighbours_vote_as_released(case):
    found = measured(case, parity="official")
    assert 100 * found["knn_accuracy"][0] == pytest.approx(case.value("knn_top1"), rel=1e-6)
    vote = {"k": int(case.value("k")), "temperature": float(case.value("T")), "parity": "official"}
    ranked = knn.vote(case["train_features"], case["train_labels"], case["test_features"], **vote)
    top5 = knn.hits(ranked, case["test_labels"], 5).mean()
    assert 100 * top5 == pytest.approx(case.value("knn_top5"), rel=1e-6)
    if int(case.value("num_label_set")) > 5 and int(case.value("k")) >= 5:  # else a top 5 says nothing, and is left out
        assert found["knn_top5_accuracy"][0] == top5


def test_a_class_without_a_vote_is_no_guess(case):
    """What the released top 5 counts beyond ours are rows whose own class got no vote at all."""
    vote = {"k": int(case.value("k")), "temperature": float(case.value("T"))}
    given = (case["train_features"], case["train_labels"], case["test_features"])
    right = knn.hits(knn.vote(*given, **vote), case["test_labels"], 5)
    official = knn.hits(knn.vote(*given, **vote, parity="official"), case["test_labels"], 5)
    assert (official >= right).all()
    voted = knn.vote(*given, **vote) == case["test_labels"][:, None]
    assert not voted[official & ~right].any()
    found = measured(case)
    assert 100 * found["knn_accuracy"][0] == pytest.approx(case.value("knn_top1"), rel=1e-6)
    assert found.get("knn_top5_accuracy", (right.mean(),))[0] == right.mean()


def test_counts_of_classes(case):
    counts = counts_of.class_counts(case["train_labels"], int(case.value("num_label_set")))
    np.testing.assert_array_equal(counts, case["class_counts"])
    found = measured(case, fewer_than=int(case.value("lt_threshold")))
    assert found["classes"][0] == case.value("class_coverage")
    assert found["rare_classes"][0] == case.value("lt_count_below")
    assert 100 * found["head_share"][0] == pytest.approx(case.value("ls_percent_top5"), rel=1e-6)
    assert 100 * counts_of.head_share(counts, 0.1) == pytest.approx(case.value("ls_top10"), rel=1e-6)


def test_a_cap_that_preserves_classes(case):
    labels, most = case["train_labels"], int(case.value("resample_size"))
    kept = counts_of.capped(labels, np.arange(labels.size), most)
    assert np.unique(kept).size == kept.size
    counts = np.bincount(labels[kept])
    expected = case["resample_class_counts"]
    np.testing.assert_array_equal(counts[counts > 0], expected[expected > 0])
    at_most = measured(case, most=most)
    assert at_most["rows"] == (labels.size, None) and at_most["knn_accuracy"] != measured(case)["knn_accuracy"]


def test_precision_against_counts(case):
    counts = counts_of.class_counts(case["train_labels"], int(case.value("num_label_set")))
    beside = counts[counts > 0] if case["precision"].size < counts.size else counts
    found = counts_of.correlation(case["precision"], beside)
    assert found == pytest.approx(case.value("corr_precision_count"), rel=1e-6)
    assert -1 <= measured(case)["size_correlation"][0] <= 1
