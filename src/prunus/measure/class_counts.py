"""Counts of classes: how many rows each has, how many have any or few, what the largest ones hold (Feuer et al. 2024)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.rng import Rng

Counts = NDArray[np.int64]


def class_counts(labels: NDArray[np.integer], classes: int) -> Counts:
    """Rows of every class of the label set, int64 `[classes]`.

    Args:
        labels: `[n]`, numbers of classes.
        classes: size of the label set.

    Raises:
        BadInput: a label outside of it.
    """
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        raise BadInput(f"labels such as {labels[outside][:5].tolist()} are none of the classes 0..{classes - 1}")
    return np.bincount(labels, minlength=classes).astype(np.int64)


def coverage(counts: Counts) -> int:
    """Classes with at least one row."""
    return int((counts > 0).sum())


def rare(counts: Counts, fewer_than: int) -> int:
    """Classes with a row but with fewer than so many (LT@500 counts below 500)."""
    return int(((counts > 0) & (counts < fewer_than)).sum())


def head_share(counts: Counts, part: float = 0.05) -> float:
    """Share of all rows that the largest `part` of the classes hold, at least one of them, in [0, 1] (LS@5pct)."""
    largest = np.sort(counts)[::-1][: max(1, int(part * counts.size))]
    return float(largest.sum() / max(counts.sum(), 1))


def evenness(counts: Counts) -> float:
    """Entropy of the class shares over that of equal ones, in [0, 1]; 1 for a single class."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum() / np.log(counts.size)) if counts.size > 1 else 1.0


def distance(counts: Counts, others: Counts) -> float:
    """Half the sum of absolute differences of class shares, in [0, 1]: the share of rows of another class."""
    return float(np.abs(counts / max(counts.sum(), 1) - others / max(others.sum(), 1)).sum() / 2)


def capped(labels: NDArray[np.integer], ids: np.ndarray, most: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Sorted positions of at most `most // classes` rows of every class, drawn by id; classes count up to the largest label."""
    each = most // (int(labels.max(initial=0)) + 1)
    rng = Rng(seed, "capped")
    kept = [np.zeros(0, dtype=np.int64)]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept.append(rows[rng.sample(ids[rows], min(each, rows.size))])
    return np.sort(np.concatenate(kept))


def correlation(a: NDArray[np.floating], b: NDArray[np.floating | np.integer]) -> float:
    """Pearson's correlation; NaN with fewer than two pairs or where one side does not vary."""
    x, y = (np.asarray(side, dtype=np.float64) - np.mean(side) for side in (a, b))
    norm = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / norm) if x.size > 1 and norm > 0 else float("nan")
