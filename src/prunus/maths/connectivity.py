"""Paths between two trained networks, and how alike their outputs are (Yang et al. 2021; Zhou et al. 2023).

Errors along the straight line between two networks say whether they lie in one basin: a hill in between is a barrier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, NonFinite

TINY = 1e-7


@dataclass(frozen=True)
class PathStatistics:
    """Of a quantity along a path.

    Attributes:
        least, most, mean: over the points.
        integral: mean along the path: trapezoids weighted with the length of each step.
    """

    least: float
    most: float
    mean: float
    integral: float


def mode_connectivity(errors: ArrayLike) -> float:
    """Mean of the two ends minus the error of the point that lies farthest from it, in the errors' own unit.

    Args:
        errors: `[t]`, along the path, the ends first and last; at least two.

    Returns:
        below 0 where there is a barrier, about 0 where the ends are well connected, above 0 where the path is better than
        they are. Of points equally far off the first counts.
    """
    found = _path(errors)
    gaps = (found[0] + found[-1]) / 2 - found
    return float(gaps[np.abs(gaps).argmax()])


def path_statistics(values: ArrayLike, lengths: ArrayLike) -> PathStatistics:
    """What a quantity does along a path.

    Args:
        values: `[t]`, at its points.
        lengths: `[t]`, L2 distance of the weights from those of the point before; the first is not read.
    """
    found, steps = _path(values), np.asarray(lengths, dtype=np.float64)
    if steps.shape != found.shape or (steps[1:] < 0).any():
        raise BadInput(f"a path of {found.size} points has as many lengths, none below 0; got {steps.tolist()}")
    total = float(steps[1:].sum())
    middles = (found[1:] + found[:-1]) / 2
    integral = float(middles @ steps[1:]) / total if total > 0 else float(found.mean())
    return PathStatistics(float(found.min()), float(found.max()), float(found.mean()), integral)


def agreement(a: ArrayLike, b: ArrayLike) -> float:
    """Share of rows for which two classifiers name the same class.

    Args:
        a, b: logits `[n, c]` of the same rows.
    """
    a, b = _pair(a, b)
    return float((a.argmax(1) == b.argmax(1)).mean())


def jensen_shannon(a: ArrayLike, b: ArrayLike) -> float:
    """Mean Jensen-Shannon divergence of the predicted distributions, in nats: 0 to log 2.

    Args:
        a, b: logits `[n, c]` of the same rows.
    """
    p, q = (softmax(side) for side in _pair(a, b))
    mixed = np.log(np.clip((p + q) / 2, TINY, 1))
    return float(((_entropic(p) - p * mixed) + (_entropic(q) - q * mixed)).sum(1).mean() / 2)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[n, c]` to probabilities."""
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def _entropic(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p log p, 0 where p is 0."""
    return p * np.log(np.where(p > 0, p, 1.0))


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape or not x.size:
        raise BadInput(f"outputs of the same rows are [n, c] each, not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NonFinite("outputs to compare hold NaN or infinity")
    return x, y


def _path(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or found.size < 2:
        raise BadInput(f"a path has two points or more, as one list; got the shape {found.shape}")
    if not np.isfinite(found).all():
        raise NonFinite(f"{int((~np.isfinite(found)).sum())} of {found.size} points of the path are not finite")
    return found
