"""Frechet distance of two normal distributions fitted to features: how far two sets of rows are apart.

`|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`. The trace of the root is the sum of the roots of the eigenvalues of
`S1^(1/2) S2 S1^(1/2)`, which is symmetric: no complex parts, and the root of the first is taken once for many seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput

Floats = NDArray[np.float64]
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Moments:
    """Sufficient statistics of some rows, which can be added.

    Attributes:
        count: rows.
        mean: float64 `[d]`.
        scatter: float64 `[d, d]`, the sum of the outer products of the rows minus their mean.
    """

    count: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, x: NDArray[np.floating]) -> Moments:
        """Of rows `[n, d]`, at least one."""
        if x.ndim != 2 or not x.size:
            raise BadInput(f"moments are those of rows [n, d], not of an array of shape {list(x.shape)}")
        mean = x.mean(0, dtype=np.float64)
        scatter = np.zeros((x.shape[1], x.shape[1]))
        for low in range(0, x.shape[0], BLOCK):
            rows = x[low : low + BLOCK].astype(np.float64) - mean
            scatter += rows.T @ rows
        return cls(x.shape[0], mean, scatter)

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Floats:
        """Unbiased, float64 `[d, d]`; zero for a single row."""
        return self.scatter / max(self.count - 1, 1)


class Frechet:
    """Distances to one set of rows, whose root is taken once.

    Args:
        to: its moments.
    """

    def __init__(self, to: Moments) -> None:
        values, vectors = np.linalg.eigh(to.covariance)
        self.mean, self.trace = to.mean, float(np.trace(to.covariance))
        self._root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    def __call__(self, other: Moments) -> float:
        """Squared distance, at least 0 up to rounding."""
        if other.mean.shape != self.mean.shape:
            raise BadInput(f"features of {self.mean.size} and of {other.mean.size} numbers can't be compared")
        covariance, apart = other.covariance, other.mean - self.mean
        inner = self._root @ covariance @ self._root
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum()
        return float(apart @ apart + self.trace + np.trace(covariance) - 2 * roots)
