"""One step of lazy greedy (Minoux 1978): where gains only fall, an old gain bounds the new one from above.

Only units whose old gain still reaches the best new one are computed again, in blocks that double.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def best(
    bound: Floats,
    left: NDArray[np.bool_],
    gains: Callable[[Indices], Floats],
    *,
    first: int,
    block: int,
    tie: float,
) -> int:
    """The unit that gains most; of those closer than `tie` the lowest index.

    Args:
        bound: `[n]`, upper bounds of the gains; those that are computed are written into it.
        left: bool `[n]`, units to choose from, at least one.
        gains: what each of some units gains now, `[k]`.
        first: units computed at first; then twice as many, and so on.
        block: most units computed at once.
        tie: gains closer than this are equal.
    """
    stale, top, width = left.copy(), -np.inf, min(first, block)
    while True:
        doubtful = np.flatnonzero(stale & (bound >= top - tie))
        if not doubtful.size:
            return int(np.flatnonzero(left & (bound >= top - tie))[0])
        if doubtful.size > width:
            doubtful = doubtful[np.argpartition(-bound[doubtful], width - 1)[:width]]
        bound[doubtful] = gains(doubtful)
        stale[doubtful] = False
        top, width = max(top, float(bound[doubtful].max())), min(2 * width, block)
