"""Greedy maximisation of submodular functions over a similarity: facility location, lazily and in blocks.

Similarities lie in [0, 1], are computed in float64, and kept and compared as float32, so a cached one equals one that
is computed again whatever the block. Gains are summed in float64; gains closer than four float32 roundings are ties,
and the lowest index wins. Greedy reaches 1 - 1/e of the best value (Nemhauser et al. 1978); the lazy one (Minoux
1978) picks the same units, because gains only fall.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.maths import lazy

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TIE = 2.0**-22
BLOCK = 256
"""Most columns computed at once."""
WORKING = 24
"""Bytes for each entry of a block while it is computed: float64 products and the float32 similarities."""


class Similarity(Protocol):
    """A symmetric similarity of n units, with values in [0, 1]."""

    size: int

    def rows(self, units: Indices) -> NDArray[np.float32]:
        """Similarities of these units to all, `[k, n]`."""
        ...

    def each(self, units: Indices) -> Iterable[NDArray[np.float32]]:
        """The same rows one by one, without a copy where they are kept already; not to be written to."""
        ...

    def totals(self) -> Floats | None:
        """Sum of each unit's similarities to all, `[n]`, where it is cheaper than all rows; else None."""
        ...


class Matrix:
    """A similarity that was given, `[n, n]`."""

    def __init__(self, values: NDArray[np.floating]) -> None:
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[0] != values.shape[1]:
            raise BadInput(f"a similarity is [n, n], not {list(values.shape)}")
        self.values, self.size = values.astype(np.float32, copy=False), values.shape[0]

    def rows(self, units: Indices) -> NDArray[np.float32]:
        """Rows of the matrix."""
        return self.values[units]

    def each(self, units: Indices) -> Iterator[NDArray[np.float32]]:
        """Views of its rows."""
        return (self.values[unit] for unit in units.tolist())

    def totals(self) -> Floats:
        """Sums of its rows."""
        return self.values.sum(1, dtype=np.float64)


class Cosine:
    """`0.5 + 0.5 cos`, from unit vectors.

    Args:
        directions: float64 `[n, d]`, rows of length 1.
    """

    def __init__(self, directions: Floats) -> None:
        self.directions, self.size = directions, directions.shape[0]

    def rows(self, units: Indices) -> NDArray[np.float32]:
        """One matrix product."""
        return (0.5 + 0.5 * (self.directions[units] @ self.directions.T)).astype(np.float32)

    def each(self, units: Indices) -> NDArray[np.float32]:
        """The same."""
        return self.rows(units)

    def totals(self) -> Floats:
        """Two passes over the vectors, instead of n² products."""
        return 0.5 * self.size + 0.5 * (self.directions @ self.directions.sum(0))


class Cached:
    """A similarity whose rows are kept once computed: `4 n²` bytes.

    Args:
        inner: computes them.
    """

    def __init__(self, inner: Similarity) -> None:
        self.inner, self.size = inner, inner.size
        self._kept = np.empty((self.size, self.size), dtype=np.float32)
        self._have = np.zeros(self.size, dtype=bool)

    def rows(self, units: Indices) -> NDArray[np.float32]:
        """Those that are new are computed."""
        return self._with(units)[units]

    def each(self, units: Indices) -> Iterator[NDArray[np.float32]]:
        """Views of what is kept; those that are new are computed."""
        kept = self._with(units)
        return (kept[unit] for unit in units.tolist())

    def _with(self, units: Indices) -> NDArray[np.float32]:
        """All that is kept, with these rows in it."""
        new = units[~self._have[units]]
        if new.size:
            self._kept[new] = self.inner.rows(new)
            self._have[new] = True
        return self._kept

    def totals(self) -> Floats | None:
        """As the inner one has them."""
        return self.inner.totals()


def within_memory(similarity: Similarity, max_ram: int) -> tuple[Similarity, int]:
    """The similarity, cached if its n x n matrix fits in half of `max_ram` bytes; and how many rows a block may have.

    Raises:
        BadInput: not even one row fits.
    """
    n = similarity.size
    if max_ram < WORKING * n:
        raise BadInput(f"max_ram={max_ram} is less than the {WORKING * n} bytes that one row of {n} similarities takes")
    cached = similarity if isinstance(similarity, Matrix) or 8 * n * n > max_ram else Cached(similarity)
    return cached, int(min(BLOCK, max(1, max_ram // 2 // (WORKING * n))))


class FacilityLocation:
    """Lazy greedy for `F(S) = sum_i max_{j in S} s_ij`.

    Args:
        similarity: of the n units.
        block: most rows computed at once.
    """

    def __init__(self, similarity: Similarity, block: int = BLOCK) -> None:
        self.similarity, self.block = similarity, block
        n, totals = similarity.size, similarity.totals()
        self.covered = np.zeros(n, dtype=np.float32)
        # Gains of the empty set bound all later ones; the slack is the float32 rounding of the rows.
        self.bound = np.full(n, np.inf) if totals is None else totals + n * TIE
        self.left = np.ones(n, dtype=bool)
        self.order: list[int] = []
        self.gains: list[float] = []

    def add(self, unit: int) -> None:
        """Take one unit, whether or not it is the best."""
        row = self.similarity.rows(np.array([unit]))[0]
        self.gains.append(float(np.maximum(np.subtract(row, self.covered, dtype=np.float64), 0).sum()))
        np.maximum(self.covered, row, out=self.covered)
        self.order.append(unit)
        self.left[unit] = False

    def best(self) -> int:
        """The unit that adds most; of equals the lowest index."""
        return lazy.best(self.bound, self.left, self._gains, first=2, block=self.block, tie=TIE)

    def _gains(self, units: Indices) -> Floats:
        """What each would add: sums in float64 of what would be covered, less what is; a row fits in the cache."""
        single, double = np.empty_like(self.covered), np.empty(self.covered.size)
        found, now = np.empty(units.size), self.covered.sum(dtype=np.float64)
        for place, row in enumerate(self.similarity.each(units)):
            double[:] = np.maximum(row, self.covered, out=single)
            found[place] = double.sum() - now
        return found


def facility_location(
    similarity: Similarity, count: int, *, start: Indices | None = None, block: int = BLOCK
) -> FacilityLocation:
    """Pick `count` units greedily.

    Args:
        similarity: of the n units.
        count: units picked altogether.
        start: units picked first.
        block: most rows computed at once.

    Returns:
        the state, with `order` and `gains` of the picks.
    """
    state = FacilityLocation(similarity, block)
    for unit in [] if start is None else start.tolist():
        state.add(unit)
    while len(state.order) < count:
        state.add(state.best())
    return state


def shares(similarity: Similarity, chosen: Indices, block: int = BLOCK) -> Indices:
    """How many units have each chosen one as their most similar, int64 `[m]`; ties go to the lowest unit.

    Args:
        similarity: of the n units.
        chosen: units, in any order.
        block: most rows computed at once.
    """
    best = np.full(similarity.size, -np.inf, dtype=np.float32)
    owner = np.zeros(similarity.size, dtype=np.int64)
    order = np.argsort(chosen, kind="stable")
    for low in range(0, order.size, block):
        part = order[low : low + block]
        rows = similarity.rows(chosen[part])
        top = rows.argmax(0)
        value = rows[top, np.arange(similarity.size)]
        closer = value > best
        owner[closer], best[closer] = part[top[closer]], value[closer]
    return np.bincount(owner, minlength=chosen.size).astype(np.int64)
