"""Exact greedy choices from float32 products: a float32 pass bounds every unit, float64 decides between those in doubt.

A matrix-vector product in float32 reads half the memory, but its last bits depend on threads and blocks. Here it only
narrows the choice: with its rigorous error bound, the units that may be best are computed again in float64, each from
its own row alone. Equal rows so get equal values, and of equal values the lowest index wins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

ROUNDING = 2.0**-24
CHUNK = 4096
"""Rows taken to float64 at a time."""
EVERY = 32
"""Centres after which all units are shown them."""
WIDTH = 32
"""Units that are shown the centres they have not seen, at first; then twice as many, and so on."""
USABLE = 2.0**40
"""Rows whose largest entry lies outside 1 / USABLE .. USABLE are scaled by a power of two, so squares stay in float32."""


def power_of_two(x: NDArray[np.floating]) -> float:
    """1, or the power of two that brings the largest entry of `x` near 1 when it is extreme; scaling by it is exact."""
    largest = largest_entry(x)
    if largest == 0 or 1 / USABLE < largest < USABLE:
        return 1.0
    return 2.0 ** -int(np.frexp(largest)[1])


def largest_entry(x: NDArray[np.floating]) -> float:
    """The largest absolute value, without a copy of `x`."""
    return max((float(np.abs(x[low : low + CHUNK]).max(initial=0.0)) for low in range(0, len(x), CHUNK)), default=0.0)


def centred(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """`x` less its mean, in float32 `[n, d]`: rounding of distances is least around the mean."""
    mean, found = x.mean(0, dtype=np.float64), np.empty(x.shape, dtype=np.float32)
    for low in range(0, x.shape[0], CHUNK):
        found[low : low + CHUNK] = x[low : low + CHUNK] - mean
    return found


def squared_norms(x: NDArray[np.floating]) -> Floats:
    """float64 `[n]`, each from its own row."""
    found = np.empty(x.shape[0])
    for low in range(0, x.shape[0], CHUNK):
        rows = x[low : low + CHUNK].astype(np.float64)
        found[low : low + CHUNK] = (rows * rows).sum(1)
    return found


def shift(x: NDArray[np.floating]) -> float:
    """Most that rounding moves a row of `centred(x)`: that of `x - mean` itself."""
    return 2.0**-50 * largest_entry(x) * x.shape[1] ** 0.5


def doubt(reach: Floats, dimensions: int, shift: float) -> Floats:
    """Most that a squared distance of centred rows can be off when it is computed from float32 products.

    Args:
        reach: the two norms and the shift, summed.
        dimensions: d of the rows.
        shift: see `shift`.
    """
    return 1.01 * (dimensions + 8) * ROUNDING * reach**2 + 4 * shift * reach


class Linear:
    """The unit with the largest `base_i + x_i . direction`, one direction after the other.

    Args:
        x: `[n, d]`, finite, float32 or float64. Kept, and copied in float32 unless it is float32.
    """

    def __init__(self, x: NDArray[np.floating]) -> None:
        self.x = x
        self.single = np.ascontiguousarray(x, dtype=np.float32)
        self.norms = np.sqrt(squared_norms(x))
        self.gamma = 1.01 * (x.shape[1] + 4) * ROUNDING

    def largest(self, base: Floats, direction: Floats, left: NDArray[np.bool_]) -> int:
        """Index of the largest among those `left`; of equals the lowest.

        Args:
            base: `[n]`.
            direction: `[d]`.
            left: bool `[n]`, at least one true.
        """
        size = float(np.sqrt((direction * direction).sum()))
        unit = (direction / (size or 1.0)).astype(np.float32)
        about = np.where(left, base + size * (self.single @ unit), -np.inf)
        off = self.gamma * size * self.norms
        near = np.flatnonzero(about + off >= (about - off).max())
        exact = np.concatenate([
            base[part] + (self.x[part].astype(np.float64) * direction).sum(1)
            for part in np.split(near, range(CHUNK, near.size, CHUNK))
        ])  # fmt: skip
        return int(near[exact.argmax()])


class Farthest:
    """The unit farthest from all centres so far; squared Euclidean distances, state O(n).

    Every unit has a lower and an upper bound of its distance to the nearest of the centres it has seen. A distance only
    falls as centres come, so an old upper bound holds, and only units whose bound reaches the top are shown the new
    centres, in blocks; every `EVERY` centres all units are, in one float32 product. The exact distance, from
    differences in float64, is computed for the few units whose bounds reach the top even then.

    Args:
        x: `[n, d]`, finite.
    """

    def __init__(self, x: NDArray[np.floating]) -> None:
        n = x.shape[0]
        self.x, self.centres = x, np.zeros(0, dtype=np.int64)
        self.single = centred(x)
        self.squares = squared_norms(self.single)
        self.norms = np.sqrt(self.squares)
        self.shift = shift(x)
        self.low, self.high = np.full(n, np.inf), np.full(n, np.inf)
        self.seen, self.all_saw = np.zeros(n, dtype=np.int64), 0
        self.exact, self.done = np.full(n, np.inf), np.zeros(n, dtype=np.int64)

    def add(self, centre: int) -> None:
        """Make one unit a centre; it is not looked for any more."""
        self.centres = np.append(self.centres, centre)
        self.high[centre] = self.low[centre] = -np.inf

    def farthest(self) -> int:
        """Index of the farthest unit that is no centre; of equals the lowest. At least one centre must be there."""
        if self.centres.size - self.all_saw >= EVERY:
            for low in range(0, self.x.shape[0], CHUNK):
                self._show(slice(low, low + CHUNK), self.all_saw)
            self.all_saw = self.centres.size
        stale = self.seen < self.centres.size
        best, width = float(np.where(stale, -np.inf, self.low).max()), WIDTH
        while True:
            doubtful = np.flatnonzero(stale & (self.high >= best))
            if not doubtful.size:
                break
            if doubtful.size > width:
                doubtful = doubtful[np.argpartition(-self.high[doubtful], width - 1)[:width]]
            self._show(doubtful, int(self.seen[doubtful].min()))
            stale[doubtful] = False
            best, width = max(best, float(self.low[doubtful].max())), 2 * width
        near = np.flatnonzero(self.high >= best)
        return int(near[self.distances(near).argmax()])

    def _show(self, units: Indices | slice, first: int) -> None:
        """Take the centres from number `first` on into the bounds of these units."""
        centres = self.centres[first:]
        about = self.single[units] @ self.single[centres].T
        about *= -2
        about += self.squares[centres].astype(np.float32)
        nearest = about.min(1) + self.squares[units]
        reach = self.norms[units] + self.norms[centres].max() + self.shift
        off = doubt(reach, self.x.shape[1], self.shift)
        self.low[units] = np.minimum(self.low[units], np.maximum(nearest - off, 0))
        self.high[units] = np.minimum(self.high[units], nearest + off)
        self.seen[units] = self.centres.size

    def distances(self, units: Indices) -> Floats:
        """Exact squared distance of these units to the nearest centre, float64 `[k]`."""
        for low in range(0, units.size, CHUNK):
            self._catch_up(units[low : low + CHUNK])
        self.done[units] = self.centres.size
        self.low[units] = self.high[units] = self.exact[units]
        return self.exact[units]

    def _catch_up(self, units: Indices) -> None:
        """Take new centres into the exact distances; those that float32 shows to be farther than another are left out."""
        centres = self.centres[int(self.done[units].min()) :]
        if not centres.size:
            return
        products = self.single[units] @ self.single[centres].T
        about = self.squares[units, None] - 2 * products + self.squares[centres]
        reach = self.norms[units, None] + self.norms[centres] + self.shift
        off = doubt(reach, self.x.shape[1], self.shift)
        rows, columns = np.nonzero(about - off <= self.high[units, None])
        for low in range(0, rows.size, CHUNK):
            at, to = units[rows[low : low + CHUNK]], centres[columns[low : low + CHUNK]]
            away = self.x[at].astype(np.float64) - self.x[to]
            np.minimum.at(self.exact, at, (away * away).sum(1))
