"""The linear probe: gradients vanish at the answer whatever the number of classes, rows count alike, one class is fine."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.maths.linear_probe import fitted


@pytest.fixture
def rows():
    random = np.random.RandomState(0)
    x = random.randn(120, 5)
    labels = (x[:, :3] + random.randn(120, 3)).argmax(1)
    return x, labels


@pytest.mark.parametrize("ridge", [0.1, 1.0, 30.0])
def test_it_is_a_minimum(rows, ridge):
    x, labels = rows
    found = fitted(x, labels, ridge)
    error = found.predict_proba(x)
    error[np.arange(labels.size), labels] -= 1
    slope = np.concatenate([error.T @ x + ridge * found.coef_, error.sum(0)[:, None]], axis=1)
    assert np.abs(slope).max() < 1e-3


def test_float32_and_the_order_of_rows_change_nothing(rows):
    x, labels = rows[0].astype(np.float32), rows[1]
    first, order = fitted(x.astype(np.float64), labels).predict_proba(x), np.random.RandomState(1).permutation(120)
    np.testing.assert_array_equal(fitted(x, labels).predict_proba(x), first)
    np.testing.assert_allclose(fitted(x[order], labels[order]).predict_proba(x), first, atol=1e-5)


def test_one_class_is_certain(rows):
    found = fitted(rows[0], np.full(120, 3))
    assert found.classes_.tolist() == [3] and (found.predict_proba(rows[0]) == 1).all()
    assert (found.predict(rows[0][:4]) == 3).all()
