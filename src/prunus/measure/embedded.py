"""What a selection is worth in a frozen embedding, without training: a linear probe, near copies, and how far it is from a target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.maths import euclidean
from prunus.maths.linear_probe import fitted

Floats = NDArray[np.float64]
BYTES = 64 << 20
"""Bytes of one block of similarities or distances."""
MOST = 4000
"""Rows of a side that a distance between distributions is computed from."""


def probe(
    kept: NDArray[np.floating], labels: NDArray[np.integer], queries: NDArray[np.floating], *, ridge: float = 1.0
) -> NDArray[np.int64]:
    """Class of every query by logistic regression on the embedding of the kept rows, int64 `[q]`: a linear probe.

    Args:
        kept: `[n, d]`; columns are scaled to mean 0 and variance 1.
        labels: `[n]`, class numbers.
        queries: `[q, d]`.
        ridge: see `maths.linear_probe`.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    mean, scale = kept.mean(0, dtype=np.float64), kept.std(0, dtype=np.float64)
    scale = np.where(scale > 0, scale, 1.0)
    return np.asarray(fitted((kept - mean) / scale, labels, ridge).predict((queries - mean) / scale), dtype=np.int64)


def copies(x: NDArray[np.floating], eps: float = 0.05) -> float:
    """Share of rows that have another one within cosine `1 - eps`, in [0, 1]; zero rows are copies of nothing."""
    rows = _directions(x)
    again = 0
    for low, block in _blocks(rows, len(rows)):
        cosines = block @ rows.T
        cosines[np.arange(len(block)), low + np.arange(len(block))] = -1.0
        again += int((cosines.max(1) >= 1 - eps).sum())
    return again / max(len(rows), 1)


def agrees(labels: NDArray[np.integer], x: NDArray[np.floating], *, k: int = 20) -> NDArray[np.bool_]:
    """Whether most of the k most similar rows of each row have its label, bool `[n]`.

    Args:
        labels: `[n]`; of equally many the lower class.
        x: `[n, d]`.
        k: neighbours; all others where there are fewer.
    """
    rows, found = _directions(x), np.zeros(len(x), dtype=bool)
    number, near = int(labels.max(initial=0)) + 1, min(k, len(rows) - 1)
    for low, block in _blocks(rows, len(rows)):
        cosines, own = block @ rows.T, np.arange(len(block))
        cosines[own, low + own] = -2.0
        at = np.argpartition(-cosines, near - 1, axis=1)[:, :near]
        votes = np.zeros((len(block), number))
        np.add.at(votes, (own[:, None], labels[at]), 1)
        found[low + own] = votes.argmax(1) == labels[low + own]
    return found


def shift(a: NDArray[np.floating], b: NDArray[np.floating], ids_a: np.ndarray, ids_b: np.ndarray) -> float:
    """How far the distributions of two embeddings are apart: the energy distance over its largest value, in [0, 1].

    `1 - (mean distance within a + mean distance within b) / (2 * mean distance across)`: 0 for samples of one
    distribution (up to sampling), 1 for two points. At most 4,000 rows of a side are used, drawn by their ids.
    """
    if not len(a) or not len(b) or a.shape[1] != b.shape[1]:
        raise BadInput(f"two embeddings [n, d] and [m, d] are compared, not {list(a.shape)} and {list(b.shape)}")
    x, y = (_drawn(side, ids) for side, ids in ((a, ids_a), (b, ids_b)))
    across = _mean_distance(x, y)
    within = sum(_mean_distance(side, side) * len(side) / max(len(side) - 1, 1) for side in (x, y))
    return float(np.clip(1 - within / (2 * across), 0, 1)) if across > 0 else 0.0


def nearest(points: NDArray[np.floating], kept: NDArray[np.floating]) -> tuple[NDArray[np.int64], Floats]:
    """(position of the nearest kept row, distance to it) for every point; the lower position of equals."""
    at = euclidean.nearest(points, kept.astype(np.float64))
    return at, np.linalg.norm(points.astype(np.float64) - kept[at], axis=1)


def _drawn(x: NDArray[np.floating], ids: np.ndarray) -> Floats:
    rows = np.arange(len(x)) if len(x) <= MOST else Rng(0, "shift").sample(ids, MOST)
    return x[rows].astype(np.float64)


def _mean_distance(x: Floats, y: Floats) -> float:
    squares = np.einsum("nd,nd->n", y, y)
    total = 0.0
    for _, block in _blocks(x, len(y)):
        away = np.einsum("nd,nd->n", block, block)[:, None] + squares - 2 * block @ y.T
        total += float(np.sqrt(np.maximum(away, 0)).sum())
    return total / (len(x) * len(y))


def _directions(x: NDArray[np.floating]) -> Floats:
    rows = x.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def _blocks(x: Floats, others: int) -> Iterator[tuple[int, Floats]]:
    """(first row, rows), so that one block against `others` fits into memory."""
    step = max(1, BYTES // (8 * max(others, 1)))
    for low in range(0, len(x), step):
        yield low, x[low : low + step]
