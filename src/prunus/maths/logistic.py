"""Multinomial logistic regression with a ridge, in float64: the linear probe on features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fitted(x: Floats, labels: NDArray[np.int64], classes: int, ridge: float = 1.0) -> Floats:
    """Weights `[d + 1, c]`, the last row for the constant, that minimise cross-entropy summed over rows + ridge / 2 |W|^2.

    The problem is convex with one minimum, found by L-BFGS from 0; the constant is not penalised.

    Args:
        x: `[n, d]`.
        labels: `[n]` in 0..classes-1.
        classes: c.
        ridge: of the weights; 1 is scikit-learn's C = 1.
    """
    from scipy.optimize import minimize

    n, d = x.shape
    truth = np.zeros((n, classes))
    truth[np.arange(n), labels] = 1

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(d + 1, classes)
        logs = log_softmax(x @ weights[:-1] + weights[-1])
        error = np.exp(logs) - truth
        slope = np.concatenate([x.T @ error + ridge * weights[:-1], error.sum(0, keepdims=True)])
        value = -float((truth * logs).sum()) + ridge / 2 * float(np.square(weights[:-1]).sum())
        return value / n, slope.reshape(-1) / n

    start = np.zeros((d + 1) * classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-6, "ftol": 0.0})
    return found.x.reshape(d + 1, classes)


def predicted(x: Floats, weights: Floats) -> Floats:
    """Probabilities `[n, c]` of rows `[n, d]` under weights `[d + 1, c]`."""
    return np.exp(log_softmax(x @ weights[:-1] + weights[-1]))


def log_softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
