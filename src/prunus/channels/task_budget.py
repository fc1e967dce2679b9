"""PAGCP's schedule: how much each task's loss may rise for each group that is cut, and the greedy walk under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from prunus.core.errors import BadInput

Floats = NDArray[np.float64]
LEAST_LOSS = 1e-6  # a task whose loss is 0 may rise to this


def decay(rate: float, limit: float, groups: int) -> float:
    """The factor between thresholds of successive groups.

    Args:
        rate: allowed relative rise of a loss by the first group.
        limit: allowed ratio of the last loss to the first, all groups together.
        groups: how many there are.

    Returns:
        x > 0 for which the product of 1 + rate * x ** i over i < groups is `limit`.

    Raises:
        BadInput: no x can give it: the first group alone may use the limit up, or there is only one.
    """
    if rate <= 0 or limit <= 1 + rate:
        raise BadInput(f"a limit of {limit} must be above what the first group alone may use, 1 + {rate}")
    if groups < 2:
        raise BadInput("a schedule over one group has no factor: its threshold is the rate")
    places = np.arange(groups)

    def excess(logarithm: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.log1p(rate * np.exp(places * logarithm)).sum() - np.log(limit))

    low, high = -1.0, 1.0
    while excess(low) > 0:
        low *= 2
    while excess(high) < 0:
        high *= 2
    return float(np.exp(cast(float, brentq(excess, low, high, xtol=1e-14))))


def visiting_order(gains: ArrayLike, factor: float) -> NDArray[np.int64]:
    """Groups by what cutting them saves: the most first if thresholds fall (`factor` <= 1), else the least first."""
    saved = np.asarray(gains, dtype=np.float64)
    return np.argsort(-saved if factor <= 1 else saved, kind="stable")


@dataclass
class Walk:
    """What the greedy walk did.

    Attributes:
        chosen: group -> index of the accepted ratio, in the order of the visits.
        losses: group -> `[tasks]` after its cut.
        before: group -> `[tasks]`, the losses it was compared with.
        visits: (group, index or -1 if the first ratio failed or -2 if none did, threshold after, base losses after).
    """

    chosen: dict[int, int] = field(default_factory=dict[int, int])
    losses: dict[int, Floats] = field(default_factory=dict[int, Floats])
    before: dict[int, Floats] = field(default_factory=dict[int, Floats])
    visits: list[tuple[int, int, float, Floats]] = field(default_factory=list[tuple[int, int, float, Floats]])


def walk(
    order: Sequence[int],
    steps: int,
    losses: Callable[[Mapping[int, int]], ArrayLike],
    base: ArrayLike,
    rate: float,
    factor: float,
    *,
    parity: Literal["paper", "official"] = "paper",
) -> Walk:
    """Cut group after group as far as no task's loss rises by more than the threshold of the moment.

    Args:
        order: groups in the order of their visits.
        steps: ratios for each group, ascending.
        losses: `[tasks]` of the model in which each group of the mapping is cut by the ratio of that index; the last
            entry is the one that is tried, all others are decided. NaN fails.
        base: `[tasks]` before anything is cut.
        rate: the first threshold.
        factor: between thresholds, from `decay`.
        parity: official leaves a group whole, and the threshold as it is, if every ratio passes.
    """
    done, level, threshold = Walk(), np.asarray(base, dtype=np.float64), rate
    for group in order:
        passed, found = -1, level
        while passed + 1 < steps:
            tried = np.asarray(losses({**done.chosen, group: passed + 1}), dtype=np.float64)
            if not (relative(tried, level) <= 1 + threshold).all():
                break
            passed, found = passed + 1, tried
        all_pass = passed == steps - 1
        if not (all_pass and parity == "official"):
            if passed >= 0:
                done.chosen[group], done.losses[group], done.before[group] = passed, found, level
                level = np.maximum(level, found)
            threshold *= factor
        done.visits.append((group, -2 if all_pass else passed, threshold, level))
    return done


def relative(losses: Floats, base: Floats) -> Floats:
    """Losses as multiples of those before; a loss of 0 counts as 1e-6."""
    return losses / np.maximum(base, LEAST_LOSS)
