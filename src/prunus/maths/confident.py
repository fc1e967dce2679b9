"""Confident learning (Northcutt et al. 2021): which labels do not fit, from held-out probabilities.

Throughout: `probs` float64 `[n, c]`, `labels` int64 `[n]` in 0..c-1, `limits` `[c]` the thresholds of the classes, `ids`
`[n]`: sums and ties follow their order, so the order of the rows does not matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]
Ids = NDArray[np.generic]
UNKNOWN = -1
ROUNDING = 1e-6
"""float32 probabilities at their threshold count as confident."""


def thresholds(probs: Floats, labels: Classes, ids: Ids) -> Floats:
    """Mean probability of each class over the rows that carry it, `[c]`; the largest of them for a class without rows."""
    order = np.argsort(ids, kind="stable")
    sizes = np.bincount(labels, minlength=probs.shape[1])
    sums = np.bincount(labels[order], weights=probs[order, labels[order]], minlength=probs.shape[1])
    means = sums / np.maximum(sizes, 1)
    return np.where(sizes > 0, means, means.max())


def adjusted(probs: Floats, limits: Floats) -> Floats:
    """Probabilities less the thresholds of their classes, raised above 0 by the largest one, of sum 1; `[n, c]`."""
    lowered = probs - limits + limits.max()
    return lowered / lowered.sum(1, keepdims=True)


def best_other(probs: Floats, labels: Classes) -> Floats:
    """The probabilities with that of the label replaced by -inf, `[n, c]`."""
    others = probs.copy()
    others[np.arange(labels.size), labels] = -np.inf
    return others


def confident(probs: Floats, limits: Floats) -> Classes:
    """The most probable class among those at or above their threshold, `[n]`; -1 where there is none."""
    sure = np.where(probs >= limits - ROUNDING, probs, -np.inf)
    return np.where(np.isfinite(sure.max(1)), sure.argmax(1), UNKNOWN)


def off_diagonal(probs: Floats, labels: Classes, limits: Floats) -> Classes:
    """Estimated rows that carry class i and are of class j, int64 `[c, c]`, 0 on the diagonal.

    Counts of confident rows, each line scaled to the rows of its class; a line's fractions go to the largest of them, so
    its total is kept to one row.
    """
    width, guess = probs.shape[1], confident(probs, limits)
    sure = guess != UNKNOWN
    counts = np.zeros((width, width))
    np.add.at(counts, (labels[sure], guess[sure]), 1)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))  # some row of each class is what it says
    scaled = counts * (np.bincount(labels, minlength=width) / counts.sum(1))[:, None]
    np.fill_diagonal(scaled, 0)
    whole = np.floor(scaled)
    missing = np.round(scaled.sum(1) - whole.sum(1)).astype(np.int64)
    rank = np.argsort(np.argsort(-(scaled - whole), axis=1, kind="stable"), axis=1)
    return (whole + (rank < missing[:, None])).astype(np.int64)


def by_confidence(probs: Floats, labels: Classes, limits: Floats) -> NDArray[np.bool_]:
    """Rows that are confidently of another class, which is also more probable than their label; bool `[n]`."""
    guess, rows = confident(probs, limits), np.arange(labels.size)
    return (guess != UNKNOWN) & (guess != labels) & (probs[rows, guess] > probs[rows, labels])


def by_noise_rate(probs: Floats, labels: Classes, limits: Floats, ids: Ids) -> NDArray[np.bool_]:
    """As many rows of every class i as are estimated to be of class j: those that lead most from i to j; bool `[n]`."""
    counts, found = off_diagonal(probs, labels, limits), np.zeros(labels.size, dtype=np.bool_)
    for own, other in zip(*counts.nonzero()):
        rows = np.flatnonzero(labels == own)
        lead = probs[rows, other] - probs[rows, own]
        first = np.lexsort((ids[rows], -lead))[: counts[own, other]]
        found[rows[first[lead[first] > 0]]] = True
    return found
