"""What a difference is worth: paired intervals, Holm's correction, and the three words a table may use.

"better" and "worse" need a paired 95 % interval that excludes 0 and a p-value that survives Holm's correction over the table;
everything else is a "tie". Differences are always pruned minus reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prunus.core.errors import BadInput, IdMismatch, NonFinite
from prunus.core.rng import uniform

LEVEL = 0.05
RESAMPLES = 10_000
BLOCK = 1_000_000  # resampled values held at once
Word = Literal["better", "worse", "tie"]


@dataclass(frozen=True)
class Difference:
    """A paired difference.

    Attributes:
        mean: of the differences (a - b).
        interval: 95 % interval, or None with fewer than two pairs.
        p: two-sided p-value of "no difference", 1 where no interval exists.
        pairs: how many.
        over: what was paired: seeds or rows.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float
    pairs: int
    over: Literal["seeds", "rows"]


def over_seeds(a: Mapping[int | None, float], b: Mapping[int | None, float]) -> Difference:
    """Student's t over seeds both arms have.

    Args:
        a, b: seed -> value, as `Results.values` gives them.

    Raises:
        IdMismatch: no seed in common.
    """
    seeds = sorted(set(a) & set(b), key=str)
    if not seeds:
        raise IdMismatch(f"no seed in common to pair by: {sorted(map(str, a))} and {sorted(map(str, b))}")
    gaps = _finite([a[seed] - b[seed] for seed in seeds])
    mean = float(gaps.mean())
    if gaps.size < 2:
        return Difference(mean, None, 1.0, int(gaps.size), "seeds")
    from scipy.special import stdtr, stdtrit

    error = float(gaps.std(ddof=1)) / math.sqrt(gaps.size)
    half = float(stdtrit(gaps.size - 1, 1 - LEVEL / 2)) * error
    p = _degenerate(mean) if error == 0 else 2 * float(stdtr(gaps.size - 1, -abs(mean) / error))
    return Difference(mean, (mean - half, mean + half), p, int(gaps.size), "seeds")


def over_rows(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, *, seed: int = 0) -> Difference:
    """Paired bootstrap over rows: both arms are resampled at the same rows.

    Args:
        a, b: `[n]`, one value per row (correct or not, loss), rows aligned.
        seed: of the resampling.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise IdMismatch(f"paired rows need two lists of one length, not {a.shape} and {b.shape}")
    gaps = _finite(a - b)
    mean = float(gaps.mean())
    if gaps.size < 2:
        return Difference(mean, None, 1.0, int(gaps.size), "rows")
    means = resampled_means(gaps, seed)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    tail = min(float((means <= 0).mean()), float((means >= 0).mean()))
    return Difference(mean, (float(low), float(high)), min(1.0, 2 * tail), int(gaps.size), "rows")


def resampled_means(values: np.ndarray, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of bootstrap samples, `[resamples]`."""
    out = np.empty(resamples)
    step = max(1, BLOCK // values.size)
    for start in range(0, resamples, step):
        rows = bootstrap_rows(seed, start, min(step, resamples - start), values.size)
        out[start : start + len(rows)] = values[rows].mean(1)
    return out


def ratio_interval(
    a: np.ndarray, b: np.ndarray, *, seed: int = 0, resamples: int = 2000
) -> tuple[float, tuple[float, float]]:
    """Median of the paired ratios a / b and its 95 % bootstrap interval.

    Args:
        a, b: positive, `[n]`, measured in turns.
    """
    ratios = _finite(np.asarray(a, dtype=np.float64) / np.asarray(b, dtype=np.float64))
    rows = bootstrap_rows(seed, 0, resamples, ratios.size)
    low, high = np.quantile(np.median(ratios[rows], axis=1), [LEVEL / 2, 1 - LEVEL / 2])
    return float(np.median(ratios)), (float(low), float(high))


def bootstrap_rows(seed: int, start: int, count: int, size: int) -> np.ndarray:
    """Row numbers of `count` bootstrap samples: int64 `[count, size]`, the same wherever they are made."""
    ids = np.arange(start * size, (start + count) * size, dtype=np.int64)
    return np.minimum((uniform(seed, "bootstrap", ids) * size).astype(np.int64), size - 1).reshape(count, size)


def wilson(successes: int, rows: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; honest at 0 and 1, where the usual one has no width."""
    if not 0 <= successes <= rows or rows < 1:
        raise BadInput(f"{successes} of {rows} is no share")
    z = 1.959963984540054
    centre = successes + z * z / 2
    half = z * math.sqrt(successes * (rows - successes) / rows + z * z / 4)
    total = rows + z * z
    return max(0.0, (centre - half) / total), min(1.0, (centre + half) / total)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted


def verdict(difference: Difference, *, better: Literal["higher", "lower"], adjusted: float | None = None) -> Word:
    """better, worse or tie.

    Args:
        difference: this arm minus its reference.
        better: whether a larger metric is better.
        adjusted: p-value after Holm's correction over the table; default the difference's own.
    """
    p = difference.p if adjusted is None else adjusted
    if difference.interval is None or p >= LEVEL or difference.interval[0] <= 0 <= difference.interval[1]:
        return "tie"
    return "better" if (difference.mean > 0) == (better == "higher") else "worse"


def verdicts(differences: Sequence[Difference], *, better: Literal["higher", "lower"]) -> list[Word]:
    """One word for each line of a table, Holm's correction over all of them."""
    adjusted = holm([d.p for d in differences])
    return [verdict(d, better=better, adjusted=p) for d, p in zip(differences, adjusted)]


def break_even(*, signals: float, selection: float, full: float, subset: float) -> float:
    """Trainings after which pruning the data has paid for itself: (signals + selection) / (full - subset).

    Args:
        signals, selection, full, subset: one unit of cost for all (samples, or CPU-seconds).

    Returns:
        inf when training on the subset saves nothing.
    """
    if min(signals, selection, full, subset) < 0:
        raise BadInput("costs can't be negative")
    return math.inf if full <= subset else (signals + selection) / (full - subset)


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise BadInput("nothing to compare: no pairs")
    if not np.isfinite(array).all():
        raise NonFinite(f"{int((~np.isfinite(array)).sum())} of {array.size} paired values are not finite")
    return array


def _degenerate(mean: float) -> float:
    """All differences are equal: certain when they are not 0."""
    return 1.0 if mean == 0 else 0.0
