"""Label mapping and feature mapping against the released functions: every array of the case, through the criteria."""

from __future__ import annotations

import re

import numpy as np
import pytest

from prunus.flow.rows import plan_rows, score_rows
from prunus.prunables.dataset import Dataset
from prunus.rows import feature_mapping as feature_module
from prunus.rows import label_mapping as label_module
from prunus.rows.feature_mapping import feature_mapping
from prunus.rows.label_mapping import label_mapping
from prunus.signals.rowset import Signals

pytestmark = pytest.mark.golden("dp4tl--lm-fm")


def retained(case) -> int:
    return int(case.value("retain_classes"))


def best_classes(scores, labels, classes):
    """Classes by the score of their rows, first to stay first."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    found = np.unique(labels)
    by_class = np.array([scores[labels == one].max() for one in found])
    assert all(np.unique(scores[labels == one]).size == 1 for one in found)
    return found[np.argsort(-by_class)][:classes]


def planned(labels, method, signals, classes, target):
    """Rows that a plan keeps whose budget is what the best classes hold."""
    data = Dataset((np.zeros((labels.size, 1), dtype=np.float32), labels), ids=np.arange(labels.size), name="source")
    score = score_rows(data, method, signals=signals, options={"target": target, "ties": "id"})
    kept = best_classes(score.values["rows"], labels, classes)
    return plan_rows(score, f"{int(np.isin(labels, kept).sum())} rows").keep()


def test_label_mapping_votes(case):
    logits, counts = case["target_logits"], case["lm_counts"]
    found = label_module.ranking(logits)
    np.testing.assert_array_equal(found.votes, counts)
    assert found.votes.sum() == len(logits)
    # torch.topk leaves classes of equal votes in any order, and any of them may stand at the end.
    topk = case["lm_kept_classes_topk"]
    np.testing.assert_array_equal(counts[found.kept(retained(case))], counts[topk])
    sure = counts > counts[topk].min()
    assert set(np.flatnonzero(sure)) <= set(found.kept(retained(case))) & set(topk)


def test_label_mapping_classes_and_rows(case):
    labels, classes = case["source_labels"], retained(case)
    found = label_module.ranking(case["target_logits"], ties="id")
    np.testing.assert_array_equal(found.kept(classes), case["lm_kept_classes_stable_own"])
    np.testing.assert_array_equal(found.rows(labels, classes), case["lm_kept_samples_stable_own"])
    released = np.flatnonzero(np.isin(labels, case["lm_kept_classes_topk"]))
    np.testing.assert_array_equal(released, case["lm_kept_samples"])
    signals = Signals(np.arange(labels.size), labels=labels)
    scores = label_mapping(signals, target=case["target_logits"], ties="id")
    np.testing.assert_array_equal(best_classes(scores, labels, classes), case["lm_kept_classes_stable_own"])


def test_label_mapping_plan(case):
    labels = case["source_labels"]
    signals = Signals(np.arange(labels.size), labels=labels)
    kept = planned(labels, "label_mapping", signals, retained(case), case["target_logits"])
    np.testing.assert_array_equal(kept, case["lm_kept_samples_stable_own"])


def test_feature_mapping(case):
    x, labels, target = case["source_features"], case["source_cluster"], case["target_features"]
    classes = retained(case)
    found = feature_module.ranking(feature_module.centroids(x, labels), [target], ties="id")
    np.testing.assert_array_equal(found.votes, case["fm_counts"])
    np.testing.assert_array_equal(found.kept(classes), case["fm_kept_stable_own"])
    signals = Signals(np.arange(labels.size), embedding=x, labels=labels)
    scores = feature_mapping(signals, target=target, ties="id")
    np.testing.assert_array_equal(best_classes(scores, labels, classes), case["fm_kept_stable_own"])
    kept = planned(labels, "feature_mapping", signals, classes, Signals(embedding=target))
    np.testing.assert_array_equal(kept, found.rows(labels, classes).astype(np.int64))


def test_trimmed_centroids(case):
    names = [name for name in case if name.startswith("ffmm_centroids_rate")]
    assert names
    for name in names:
        digits = re.fullmatch(r"ffmm_centroids_rate(\d+)", name)[1]
        middle = int(digits) / 10 ** (len(digits) - 1)  # rate02 is 0.2
        found = feature_module.centroids(
            case["source_features"], case["source_cluster"], centroid="trimmed", middle=middle
        )
        np.testing.assert_allclose(found, case[name], rtol=1e-5, atol=1e-6)
