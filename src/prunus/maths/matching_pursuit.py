"""Orthogonal matching pursuit of one vector by gradients, with ridge.

The inverse of the Cholesky factor of the ridge system grows by a row for each pick: the new row times what is to be fitted
gives what the new pick adds to the fit of all, and no system is ever solved again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.maths.last_layer import Gradients

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


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
    picked, left = np.empty(count, dtype=np.int64), np.ones(gradients.size, dtype=bool)
    inverse, fit = np.zeros((count, count)), np.zeros(count)  # of the Cholesky factor, row by row; the ridge fit
    residual, norms = target, np.zeros(count)
    along_target = gradients.along(target)
    for t in range(count):
        picked[t] = gradients.largest(residual, left)
        left[picked[t]] = False
        *inner, square = gradients.gram(picked[t : t + 1], picked[: t + 1])[0]
        row = inverse[:t, :t] @ np.array(inner)
        # Ridge bounds the Schur complement from below; rounding must not take it under.
        diagonal = np.sqrt(max(square + ridge - row @ row, ridge))
        inverse[t, :t], inverse[t, t] = (row @ inverse[:t, :t]) / -diagonal, 1 / diagonal
        fit[: t + 1] += inverse[t, : t + 1] * float(inverse[t, : t + 1] @ along_target[picked[: t + 1]])
        residual = target - gradients.sum(picked[: t + 1], fit[: t + 1])
        norms[t] = np.linalg.norm(residual)
    return picked, norms
