"""How unevenly magnitudes are spread: the PQ index and the Gini index of alive weights, and how many of them must stay."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from prunus.core.errors import BadInput


def pq_index(weights: ArrayLike, p: float = 0.5, q: float = 1.0) -> float:
    """`1 - d^(1/q - 1/p) |w|_p / |w|_q` of d weights (Diao et al. 2023): 0 where all are as large, 1 - d^(1/q - 1/p) with one.

    Scale-free; the same for several copies of the weights. A Gaussian tensor has 0.153 at (0.5, 1) and 0.202 at (1, 2).

    Args:
        weights: alive ones only, any shape.
        p, q: of the norms, 0 < p < q. Sums in float64.

    Returns:
        0.0 for no weights, or zeros only.
    """
    if not 0 < p < q:
        raise BadInput(f"the PQ index needs 0 < p < q, not {p} and {q}")
    size = np.abs(np.asarray(weights, dtype=np.float64)).reshape(-1)
    most = float(size.max(initial=0.0))
    if most == 0:
        return 0.0
    small, large = (float(((size / most) ** power).sum() ** (1 / power)) for power in (p, q))
    return max(1 - size.size ** (1 / q - 1 / p) * small / large, 0.0)


def to_retain(size: int, index: float, *, p: float = 0.5, q: float = 1.0, error: float = 0.0) -> int:
    """Lower bound of the weights to keep, ceil(d (1 + error)^(-q / (q - p)) (1 - I)^(q p / (q - p))).

    Args:
        size: alive weights d.
        index: their PQ index I.
        p, q: as for the index.
        error: tolerated share of the q-norm that goes.
    """
    share = (1 + error) ** (-q / (q - p)) * (1 - index) ** (q * p / (q - p))
    return math.ceil(size * share - 1e-9)


def gini(weights: ArrayLike, shift: float = 1e-7) -> float:
    """Gini index of the magnitudes, `sum_i (2 i - d - 1) x_(i) / (d sum x)` over ascending x = |w| + shift; 0 for no weights."""
    size = np.sort(np.abs(np.asarray(weights, dtype=np.float64)).reshape(-1)) + shift
    if size.size == 0:
        return 0.0
    ranks = np.arange(1, size.size + 1)
    return float(((2 * ranks - size.size - 1) * size).sum() / (size.size * size.sum()))
