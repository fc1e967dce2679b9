"""How many labels are wrong, by neighbours: a cheap estimate that says when it is none.

Confident learning (Northcutt et al. 2021) on the labels among each row's nearest neighbours. On features that can't tell the
classes apart it calls most labels wrong, so it is believed only if it is consistent: were every neighbour of a row's own class
and the labels wrong at random, a label would agree with a neighbour's about as often as two draws at the rate at which it agrees
with their majority. Weak features make neighbours agree more often than that (benchmarks/wrong_labels.py measures both).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunus.maths.confident import off_diagonal, thresholds
from prunus.maths.neighbours import nearest

NEIGHBOURS, FIRST = 10, 3
BELIEVED, MOST = 1.1, 0.5


@dataclass(frozen=True)
class WrongLabels:
    """An estimate.

    Attributes:
        share: of labels that are wrong; None where the features are too weak to tell.
        at_most: an upper bound: also what a clean set gives on weak features.
        agreement: how much oftener neighbours agree than wrong labels alone explain; about 1 where the share is believed.
        rows: looked at.
    """

    share: float | None
    at_most: float
    agreement: float
    rows: int


def wrong_labels(
    features: NDArray[np.floating], labels: NDArray[np.int64], ids: NDArray[np.generic]
) -> WrongLabels | None:
    """The share of wrong labels; None for fewer than two classes, or rows too few for neighbours.

    Args:
        features: `[n, d]`, finite; brought to mean 0 and deviation 1 here.
        labels: `[n]`, whole numbers.
        ids: `[n]`; ties go by them.
    """
    classes, y = np.unique(labels, return_inverse=True)
    if classes.size < 2 or y.size <= NEIGHBOURS:
        return None
    spread = features.std(0)
    x = ((features - features.mean(0)) / np.where(spread > 0, spread, 1)).astype(np.float32)
    near = y[nearest(x, NEIGHBOURS).rows]
    counts = np.zeros((y.size, classes.size))
    np.add.at(counts, (np.arange(y.size)[:, None], near), 1.0 / NEIGHBOURS)
    estimate = float(off_diagonal(counts, y, thresholds(counts, y, ids)).sum()) / y.size
    right = float((counts.argmax(1) == y).mean())
    pairs = float((near[:, :FIRST] == y[:, None]).mean())
    agreement = pairs / _two_draws(right, classes.size)
    bound = _rate(pairs, classes.size)
    believed = agreement <= BELIEVED and estimate <= MOST  # labels at random are consistent too
    return WrongLabels(estimate if believed else None, max(estimate, bound), agreement, int(y.size))


def _two_draws(right: float, classes: int) -> float:
    """How often two labels of one class agree, each right at this rate and else any other."""
    return right**2 + (1 - right) ** 2 / (classes - 1)


def _rate(pairs: float, classes: int) -> float:
    """The share of wrong labels at which two labels of one class agree so often."""
    steep = 1 + 1 / (classes - 1)
    return (1 - max(1 - steep * (1 - pairs), 0.0) ** 0.5) / steep
