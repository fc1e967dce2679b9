"""The probe's solver: gradients vanish at the answer, scikit-learn agrees, one class or no feature is fine."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from prunus.maths.logistic import fitted, log_softmax, predicted


@pytest.fixture
def rows():
    random = np.random.RandomState(0)
    x = random.randn(120, 5)
    labels = (x[:, :3] + random.randn(120, 3)).argmax(1)
    return x, labels


@pytest.mark.parametrize("ridge", [0.1, 1.0, 30.0])
def test_scikit_learn_finds_the_same(rows, ridge):
    x, labels = rows
    weights = fitted(x, labels, 3, ridge)
    peer = LogisticRegression(C=1 / ridge, tol=1e-8, max_iter=1000).fit(x, labels)
    np.testing.assert_allclose(predicted(x, weights), peer.predict_proba(x), atol=1e-4)


def test_it_is_a_minimum(rows):
    x, labels = rows
    weights = fitted(x, labels, 3)
    error = predicted(x, weights)
    error[np.arange(labels.size), labels] -= 1
    slope = np.concatenate([x.T @ error + weights[:-1], error.sum(0, keepdims=True)])
    assert np.abs(slope).max() < 1e-3


def test_a_class_without_rows_is_unlikely(rows):
    x, labels = rows
    assert predicted(x, fitted(x, labels, 4))[:, 3].max() < 0.01
    assert np.allclose(np.exp(log_softmax(np.array([[1e4, 0.0]]))), [[1, 0]])
