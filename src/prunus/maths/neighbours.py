"""The nearest rows of every row, exactly: faiss proposes in float32, float64 decides, and ties go to the lower index.

faiss computes n² distances fast, but the last bits of its sums depend on threads and blocks. Here it only proposes a few
more candidates than are asked for. Their distances are computed again in float64, each from its own two rows, and the
rigorous bound of the float32 error says whether a row that was not proposed could be as near; where it could (many
equal rows, or far outliers), that row's distances are all computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from prunus.core.errors import BadInput, require
from prunus.maths.certified import centred, doubt, shift, squared_norms

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SPARE = 8
"""Candidates beyond those asked for."""
CHUNK = 4096
"""Rows searched at a time."""
BYTES = 32 << 20
"""Bytes of one block of distances that are computed again."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest other rows of n rows.

    Attributes:
        rows: int64 `[n, k]`, nearest first; of equal distances the lower index first.
        squares: float64 `[n, k]`, squared Euclidean distances.
    """

    rows: Indices
    squares: Floats

    def links(self) -> Links:
        """The undirected graph: two rows are linked when either is among the nearest of the other."""
        n, k = self.rows.shape
        # A distance of 0 is no missing entry of the sparse matrix: 1 is added, and taken off again.
        starts = k * np.arange(n + 1)
        found = csr_array((1 + self.squares.ravel(), self.rows.ravel(), starts), shape=(n, n))
        both = found.maximum(found.T).tocsr()
        both.sort_indices()
        return Links(both.indptr.astype(np.int64), both.indices.astype(np.int64), both.data - 1)


@dataclass(frozen=True, eq=False)
class Links:
    """An undirected graph of n rows: those linked with row i are `others[starts[i] : starts[i + 1]]`, ascending.

    Attributes:
        starts: int64 `[n + 1]`.
        others: int64 `[links]`; every link is there twice.
        squares: float64 `[links]`, squared distances.
    """

    starts: Indices
    others: Indices
    squares: Floats


def nearest(x: NDArray[np.floating], count: int) -> Neighbours:
    """The `count` nearest other rows of each, or all others where there are fewer; a row is not its own neighbour.

    Args:
        x: float32 or float64 `[n, d]`, finite.
        count: neighbours of a row, k.

    Returns:
        Neighbours, in 2 n² d multiplications and `4 n d + 24 n k` bytes.

    Raises:
        BadInput: count is negative. MissingExtra: faiss is not installed.
    """
    if count < 0:
        raise BadInput(f"a row can't have {count} neighbours")
    n, d = x.shape
    k = min(count, max(n - 1, 0))
    found = Neighbours(np.empty((n, k), dtype=np.int64), np.empty((n, k)))
    if k == 0:
        return found
    single, moved = centred(x), shift(x)
    norms = np.sqrt(squared_norms(single))
    off = doubt(norms + norms.max() + moved, d, moved)
    index = require("faiss", "data").IndexFlatL2(d)
    index.add(single)
    asked = min(n, k + 1 + SPARE)
    for low in range(0, n, CHUNK):
        rows = np.arange(low, min(low + CHUNK, n))
        about, proposed = index.search(single[rows], asked)
        _sorted(x, rows, proposed, found)
        if asked < n:
            again = rows[found.squares[rows, -1] >= about[:, -1] - off[rows]]
            _all_others(x, again, found)
    return found


def _sorted(x: NDArray[np.floating], rows: Indices, proposed: Indices, found: Neighbours) -> None:
    """The nearest of the candidates, by their distances in float64."""
    k = found.rows.shape[1]
    proposed = np.sort(proposed.astype(np.int64), axis=1)  # a stable sort then puts the lower index first
    step = max(1, BYTES // (16 * proposed.shape[1] * x.shape[1]))
    for low in range(0, rows.size, step):
        at, other = rows[low : low + step], proposed[low : low + step]
        away = x[at].astype(np.float64)[:, None] - x[other]
        squares = np.where(other == at[:, None], np.inf, (away * away).sum(2))
        order = np.argsort(squares, axis=1, kind="stable")[:, :k]
        found.rows[at] = np.take_along_axis(other, order, 1)
        found.squares[at] = np.take_along_axis(squares, order, 1)


def _all_others(x: NDArray[np.floating], rows: Indices, found: Neighbours) -> None:
    """The nearest of all rows, where the candidates are not certain to hold them."""
    k, chunk = found.rows.shape[1], max(1, BYTES // (16 * x.shape[1]))
    for row in rows.tolist():
        squares = np.empty(x.shape[0])
        for low in range(0, x.shape[0], chunk):
            away = x[low : low + chunk].astype(np.float64) - x[row]
            squares[low : low + chunk] = (away * away).sum(1)
        squares[row] = np.inf
        border = np.partition(squares, k - 1)[k - 1]
        near = np.flatnonzero(squares <= border)
        order = near[np.argsort(squares[near], kind="stable")[:k]]
        found.rows[row], found.squares[row] = order, squares[order]
