"""Greedy maximisation of `ln det(lam I + K_S)` for a kernel of low rank, `K = F Fᵀ`: lazily, without K.

What a unit adds to the kept ones is `ln(lam + v_j)`, with `v_j = k_jj - k_jS (lam I + K_S)^-1 k_Sj` the variance that a
Gaussian process leaves it. In terms of the features that is `lam f_jᵀ (lam I + F_Sᵀ F_S)^-1 f_j`, so one `[r, r]` matrix
holds all that is known of the picks, however many there are. Variances only fall: greedy is lazy. Those closer than
1e-9 are equal, and the lowest index wins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.maths import lazy

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TIE = 1e-9
BLOCK = 1024
"""Most units whose variance is computed at once."""


class Variance:
    """What is left of each unit's variance as units are picked.

    Args:
        features: float64 `[n, r]`, rows of length 1.
        lam: noise of the process, above 0: small makes a second unit like a picked one worthless.
    """

    def __init__(self, features: Floats, lam: float) -> None:
        self.features, self.lam = features, lam
        n, r = features.shape
        self.inside = np.eye(r)  # lam (lam I + F_Sᵀ F_S)^-1
        self.bound = np.ones(n)
        self.left = np.ones(n, dtype=bool)
        self.order: list[int] = []

    def add(self, unit: int) -> None:
        """Take one unit, whether or not it is the best."""
        row = self.features[unit]
        along = (self.inside * row).sum(1)
        self.inside -= np.outer(along, along / (self.lam + float((row * along).sum())))
        self.order.append(unit)
        self.left[unit] = False

    def best(self) -> int:
        """The unit with the largest variance; of equals the lowest index."""
        return lazy.best(self.bound, self.left, self._variances, first=32, block=BLOCK, tie=TIE)

    def _variances(self, units: Indices) -> Floats:
        rows = self.features[units]
        return ((rows @ self.inside) * rows).sum(1)


def log_determinant(features: Floats, count: int, *, lam: float, start: Indices | None = None) -> list[int]:
    """Pick `count` units greedily, those of `start` first.

    Args:
        features: float64 `[n, r]`, rows of length 1.
        count: units picked altogether.
        lam: see `Variance`.
        start: units picked first.
    """
    state = Variance(features, lam)
    for unit in [] if start is None else start.tolist():
        state.add(unit)
    while len(state.order) < count:
        state.add(state.best())
    return state.order
