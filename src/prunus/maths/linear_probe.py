"""Multinomial logistic regression with a ridge, by scikit-learn in float64: the linear probe on features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import require


def fitted(x: NDArray[np.floating], labels: NDArray[np.integer], ridge: float = 1.0) -> Any:
    """A classifier of scikit-learn with `classes_`, `predict(x)` and `predict_proba(x)`; of one class it knows no other.

    Args:
        x: `[n, d]`, columns of like scale.
        labels: class numbers `[n]`.
        ridge: of the weights, beside the cross-entropy summed over rows: 1 / C. The constant is not penalised.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    if np.unique(labels).size == 1:
        return require("sklearn.dummy", "data").DummyClassifier().fit(x, labels)
    linear = require("sklearn.linear_model", "data")
    return linear.LogisticRegression(C=1 / ridge, tol=1e-6, max_iter=1000).fit(x.astype(np.float64), labels)
