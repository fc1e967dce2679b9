"""Selecting inside the classes of one group: the same share of every label, by any selector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from prunus.allocate.request import Request
from prunus.allocate.uniform import uniform
from prunus.core.errors import BadInput
from prunus.core.score import GroupScore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Positions = NDArray[np.int64]


def part(score: GroupScore, positions: Positions) -> GroupScore:
    """The same score over some of its units, float `[p]`."""
    signals = None if score.signals is None else score.signals.take(positions)
    return GroupScore(score.values[positions], score.ids[positions], score.sense, signals, score.name)


def check_count(score: GroupScore, count: int) -> None:
    """Refuse a count that is not one of 0..n."""
    if not 0 <= count <= score.values.shape[0]:
        raise BadInput(f"can't keep {count} of {score.values.shape[0]} units of {score.name or 'the group'}")


def labels_of(score: GroupScore) -> NDArray[np.generic]:
    """The labels of the units, `[n]`, from the signals that came with the score."""
    labels = getattr(score.signals, "labels", None)
    if labels is None:
        raise BadInput(
            "within='class' keeps the same share of every label, and no labels came with the score: give signals with "
            "labels, or use within='all'"
        )
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.shape[0] != score.values.shape[0]:
        raise BadInput(
            f"labels must be one number for each of {score.values.shape[0]} rows, not of shape {labels.shape}"
        )
    return labels


def by_label(score: GroupScore, count: int, select: Callable[[Positions, int], Positions]) -> Positions:
    """Split `count` over the labels in proportion to their rows (largest remainder) and select inside each.

    Args:
        score: the whole group, with labels among its signals.
        count: units kept altogether.
        select: (positions of one label, how many) -> kept, as indices into these positions.

    Returns:
        int64 `[count]` positions.
    """
    found, members = np.unique(labels_of(score), return_inverse=True)
    sizes = np.bincount(members, minlength=found.size)
    counts = uniform(Request.of(sizes, count))
    order = np.argsort(members, kind="stable")
    kept = [np.zeros(0, dtype=np.int64)]
    for positions, few in zip(np.split(order, np.cumsum(sizes)[:-1]), counts.tolist()):
        kept.append(positions[select(positions, few)])
    return np.concatenate(kept)
