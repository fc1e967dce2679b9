"""Orthogonal matching pursuit of one vector by gradients, with ridge and an incremental Cholesky factor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from prunus.maths.last_layer import Gradients

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TIE = 1e-12
"""Correlations this close, relative to the lengths they come from, are equal; the lowest index wins."""


def matching_pursuit(gradients: Gradients, target: Floats, count: int, ridge: float) -> tuple[Indices, Floats]:
    """Pick, one after the other, the gradient most along what the ridge fit of those picked leaves of the target.

    Args:
        gradients: of n rows.
        target: `[c, k]`.
        count: rows picked, all different.
        ridge: added to the diagonal of the Gram matrix, above 0.

    Returns:
        int64 `[count]` in the order of picking; float64 `[count]` norms of the residual after each.
    """
    picked, left = np.zeros(0, dtype=np.int64), np.ones(gradients.size, dtype=bool)
    factor, projected = np.zeros((count, count)), np.zeros(count)
    residual, norms = target, np.zeros(count)
    along_target, lengths = gradients.along(target), np.sqrt(gradients.squares())
    for t in range(count):
        along = np.where(left, gradients.along(residual), -np.inf)
        unit = int(np.flatnonzero(along >= along.max() - TIE * lengths.max() * np.linalg.norm(residual))[0])
        row = gradients.gram(np.array([unit]), np.append(picked, unit))[0]
        factor[t, :t] = solve_triangular(factor[:t, :t], row[:-1], lower=True, check_finite=False) if t else 0
        # Ridge bounds the Schur complement from below; rounding must not take it under.
        factor[t, t] = np.sqrt(max(row[-1] + ridge - factor[t, :t] @ factor[t, :t], ridge))
        projected[t] = (along_target[unit] - factor[t, :t] @ projected[:t]) / factor[t, t]
        picked, left[unit] = np.append(picked, unit), False
        low = factor[: t + 1, : t + 1]
        fit = solve_triangular(low, projected[: t + 1], lower=True, trans=1, check_finite=False)
        residual = target - gradients.sum(picked, fit)
        norms[t] = np.linalg.norm(residual)
    return picked, norms
