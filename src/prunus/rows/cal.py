"""CAL: rows predicted unlike their nearest neighbours in feature space (Margatina et al. 2021).

Removes: rows. Large is hard: a row near a boundary that its neighbours are not.
Needs: embedding, probs; all rows at once.
Cost: n² d multiplications in float64 by blocks, memory 28 n d + 24 n c + 8 n k bytes and 200 MB.
Departures: keeps the largest, as published for acquisition; DeepCore keeps the lowest. The divergence is symmetric,
  `(KL(p_i, p_j) + KL(p_j, p_i)) / 2`, as in DeepCore, where the paper takes KL(neighbour, row); probabilities are
  clipped at 1e-12. Neighbours are exact, of equal distances the lower id first; a row is not its own neighbour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.select.vectors import checked_rows

if TYPE_CHECKING:
    Floats = NDArray[np.float64]

LEAST = 1e-12
BYTES = 32 << 20
"""Bytes of one block of squared distances."""


@criterion(
    unit="rows",
    needs=("embedding", "probs"),
    sense="hard",
    whole=True,
    card="coreset-baselines",
    memory="28 * n * d + 24 * n * c + 8 * n * neighbours + 100 * n + 201326592",
)
def cal(s: Any, *, neighbours: int = 10) -> Tensor:
    """Mean symmetric divergence from the nearest neighbours, float64 `[n]`, 0 or more.

    Args:
        s: signals with `ids [n]`, `embedding [n, d]` and `probs [n, c]`.
        neighbours: how many, at most n - 1.
    """
    if neighbours < 1:
        raise BadInput(f"neighbours must be 1 or more, not {neighbours}")
    order = np.argsort(s.ids, kind="stable")
    ids = np.asarray(s.ids)[order]
    x = checked_rows("embedding", np.asarray(s.embedding)[order], ids).astype(np.float64)
    probs = checked_rows("probs", np.asarray(s.probs)[order], ids).astype(np.float64)
    found = np.empty(ids.size)
    found[order] = divergence(probs, nearest(x - x.mean(0), min(neighbours, ids.size - 1)))
    return torch.from_numpy(found)


def nearest(x: Floats, count: int) -> NDArray[np.int64]:
    """The `count` nearest other rows of each, int64 `[n, count]`; equal distances go to the lower index."""
    n = x.shape[0]
    found = np.empty((n, count), dtype=np.int64)
    squares = (x * x).sum(1)
    block = max(1, BYTES // (8 * n))
    tie = 1e-12 * float(squares.max(initial=0.0))
    for low in range(0, n if count else 0, block):
        rows = np.arange(low, min(low + block, n))
        away = squares - 2 * (x[rows] @ x.T) + squares[rows, None]
        away[np.arange(rows.size), rows] = np.inf
        border = np.partition(away, count - 1, axis=1)[:, count - 1]
        for row, distances, last in zip(rows, away, border):
            near = np.flatnonzero(distances <= last + tie)
            exact = ((x[near] - x[row]) ** 2).sum(1)
            found[row] = near[np.argsort(np.where(near == row, np.inf, exact), kind="stable")[:count]]
    return found


def divergence(probs: Floats, neighbours: NDArray[np.int64]) -> Floats:
    """Mean over the neighbours of `sum_c (p_i - p_j) (ln p_i - ln p_j) / 2`, float64 `[n]`."""
    if not neighbours.shape[1]:
        return np.zeros(probs.shape[0])
    logs, found = np.log(probs.clip(LEAST)), np.zeros(probs.shape[0])
    for column in neighbours.T:
        found += ((probs - probs[column]) * (logs - logs[column])).sum(1)
    return found / (2 * neighbours.shape[1])
