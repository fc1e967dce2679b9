"""Last-layer gradients of cross-entropy, kept as two factors: `(p - y)` and `(1, h)`, never their outer product.

The gradient of a row with respect to the bias and weight of a linear classifier is the outer product of its error
`e = p - y` and its input with a one, `(1, h)`. Inner products of two gradients are products of two inner products, so
n rows take `n (c + d)` numbers instead of `n c d`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from prunus.maths.certified import ROUNDING

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Float = TypeVar("Float", np.float32, np.float64)

TIE = 1e-12
"""Products this close, relative to the lengths they come from, are equal."""
CHUNK = 1024
"""Rows taken together where a product of both factors is formed."""


class Gradients:
    """Gradients `g_i = e_i outer k_i` of n rows.

    Args:
        errors: `[n, c]`.
        inputs: `[n, k]`; None for gradients that are given whole as `errors`.
    """

    def __init__(self, errors: NDArray[np.floating], inputs: NDArray[np.floating] | None = None) -> None:
        self.errors = errors.astype(np.float64, copy=False)
        self.inputs = np.ones((errors.shape[0], 1)) if inputs is None else inputs.astype(np.float64, copy=False)
        self.size = errors.shape[0]
        self._narrow: tuple[NDArray[np.float32], NDArray[np.float32], Floats] | None = None

    @classmethod
    def of(cls, probs: NDArray[np.floating], labels: NDArray[np.int64], embedding: NDArray[np.floating]) -> Gradients:
        """From probabilities `[n, c]`, labels `[n]` in 0..c-1 and the input of the last layer `[n, d]`."""
        errors = probs.astype(np.float64)
        errors[np.arange(labels.size), labels] -= 1
        inputs = np.ones((labels.size, 1 + embedding.shape[1]))
        inputs[:, 1:] = embedding
        return cls(errors, inputs)

    def squares(self) -> Floats:
        """Squared length of each, `[n]`."""
        return (self.errors**2).sum(1) * (self.inputs**2).sum(1)

    def gram(self, units: Indices, others: Indices | None = None) -> Floats:
        """Inner products of some with others (all by default), `[a, b]`."""
        at = slice(None) if others is None else others
        found = self.errors[units] @ self.errors[at].T
        found *= self.inputs[units] @ self.inputs[at].T
        return found

    def mean(self) -> Floats:
        """Their mean, `[c, k]`."""
        return self.errors.T @ self.inputs / max(self.size, 1)

    def sum(self, units: Indices, weights: Floats) -> Floats:
        """Weighted sum of some of them, `[c, k]`."""
        return (self.errors[units] * weights[:, None]).T @ self.inputs[units]

    def along(self, direction: Floats) -> Floats:
        """Inner product of each with `direction` `[c, k]`: float64 `[n]`."""
        return _products(self.errors, self.inputs, direction)

    def largest(self, direction: Floats, left: NDArray[np.bool_]) -> int:
        """Index of the one most along `direction` among those `left`; of equals, up to 1e-12 of the lengths, the lowest.

        Products in float32 narrow the choice; float64 decides between those that their error leaves in doubt.
        """
        if self._narrow is None:
            lengths = np.sqrt(self.squares())
            self._narrow = self.errors.astype(np.float32), self.inputs.astype(np.float32), lengths
        errors, inputs, lengths = self._narrow
        size = float(np.linalg.norm(direction))
        about = _products(errors, inputs, (direction / (size or 1.0)).astype(np.float32))
        about[~left] = -np.inf
        doubt = 1.01 * (sum(direction.shape) + 6) * ROUNDING * lengths
        near = np.flatnonzero(about + doubt >= (about - doubt).max())
        exact = _products(self.errors[near], self.inputs[near], direction)
        return int(near[np.argmax(exact >= exact.max() - TIE * size * lengths.max(initial=0.0))])


def _products(errors: NDArray[Float], inputs: NDArray[Float], direction: NDArray[Float]) -> NDArray[Float]:
    """`e_i . direction . k_i` of every row, `[n]`, in chunks that stay in the cache."""
    found = np.empty(errors.shape[0], dtype=errors.dtype)
    for low in range(0, errors.shape[0], CHUNK):
        rows = slice(low, low + CHUNK)
        np.einsum("nk,nk->n", errors[rows] @ direction, inputs[rows], out=found[rows])
    return found


class Nearness:
    """`1 - |g_i - g_j| / D` with D twice the longest gradient, a similarity in [0, 1] (see maths/submodular).

    Facility location picks the same units whatever upper bound of the distances D is.

    Args:
        gradients: of the n rows.
    """

    def __init__(self, gradients: Gradients) -> None:
        self.gradients, self.size = gradients, gradients.size
        self._squares = gradients.squares()
        self._bound = 2 * float(np.sqrt(self._squares.max(initial=0.0))) or 1.0

    def rows(self, units: Indices) -> NDArray[np.float32]:
        """Products of the factors, in float64."""
        squared = self._squares[units, None] - 2 * self.gradients.gram(units) + self._squares
        squared[np.arange(units.size), units] = 0  # a row is at no distance from itself, whatever rounding says
        return (1 - np.sqrt(np.maximum(squared, 0)) / self._bound).astype(np.float32)

    def each(self, units: Indices) -> NDArray[np.float32]:
        """The same."""
        return self.rows(units)

    def totals(self) -> None:
        """Distances have no cheaper sum than all of them."""


class Alikeness:
    """`0.5 + 0.5 cos(g_i, g_j)` (see maths/submodular).

    Args:
        gradients: of the n rows, none of them zero.
    """

    def __init__(self, gradients: Gradients) -> None:
        self.gradients, self.size = gradients, gradients.size
        self._norms = np.sqrt(gradients.squares())

    def rows(self, units: Indices) -> NDArray[np.float32]:
        """Products of the factors, in float64."""
        cosines = self.gradients.gram(units) / self._norms[units, None] / self._norms
        return (0.5 + 0.5 * cosines).clip(0, 1).astype(np.float32)

    def each(self, units: Indices) -> NDArray[np.float32]:
        """The same."""
        return self.rows(units)

    def totals(self) -> Floats:
        """Two passes over the factors."""
        mean = self.gradients.sum(np.arange(self.size), 1 / self._norms)
        return 0.5 * self.size + 0.5 * self.gradients.along(mean) / self._norms
