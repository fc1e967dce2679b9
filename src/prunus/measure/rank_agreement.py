"""Does a number taken before retraining order pruned networks as they end up after it? (Feng et al. 2024, oracle pruning).

The number can be the loss right after the cut (oracle pruning) or any criterion's score; candidates are cuts of one network at
one budget. Intervals are bootstrapped over candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput
from prunus.measure.stats import LEVEL, bootstrap_rows

FEWEST = 10
WEAK_TAU, MANY_ANOMALIES = 0.2, 0.5
Verdict = Literal["supported", "not supported", "too few candidates"]


@dataclass(frozen=True)
class RankAgreement:
    """How one number before retraining and one after it order the same candidates.

    Attributes:
        better: whether a higher or a lower number after retraining is better.
        candidates: how many were compared.
        dropped: candidates left out because a number was not finite (a retraining that failed).
        tau: Kendall's tau-b; NaN where one side is constant. With better="higher" agreement is negative.
        interval: its 95 % bootstrap interval over candidates, or None.
        p: two-sided p-value of tau.
        spearman, pearson: correlations of ranks and of numbers.
        oracle: position of the candidate that was best before retraining, the first of equals.
        anomalies: share of all candidates that end up strictly better than it.
        counterexamples: share of pairs, ties left out, that retraining puts in the opposite order.
    """

    better: Literal["higher", "lower"]
    candidates: int
    dropped: int
    tau: float
    interval: tuple[float, float] | None
    p: float
    spearman: float
    pearson: float
    oracle: int
    anomalies: float
    counterexamples: float

    @property
    def verdict(self) -> Verdict:
        """By the paper's thresholds: |tau| up to 0.2 (rounded), p above 0.05, or half of the candidates better count against it."""
        if self.candidates < FEWEST:
            return "too few candidates"
        agrees = self.tau > 0 if self.better == "lower" else self.tau < 0
        weak = not agrees or round(abs(self.tau), 1) <= WEAK_TAU or self.p > LEVEL
        return "not supported" if weak or self.anomalies >= MANY_ANOMALIES else "supported"


def rank_agreement(
    before: ArrayLike, after: ArrayLike, *, better: Literal["higher", "lower"], resamples: int = 2000, seed: int = 0
) -> RankAgreement:
    """Compare two orders of the same candidates.

    Args:
        before: `[n]`, lower is better: the loss of each candidate before retraining, or minus a score.
        after: `[n]`, its loss or accuracy after retraining, the mean over the same retraining seeds for all.
        better: whether a higher or lower `after` is better.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    x, y = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size < 2:
        raise BadInput(
            f"two lists of numbers of the same candidates, two or more, are compared; got {x.shape} and {y.shape}"
        )
    sound = np.isfinite(x) & np.isfinite(y)
    places, x, y = np.flatnonzero(sound), x[sound], y[sound]
    if x.size < 2:
        raise BadInput(
            f"{sound.size - x.size} of {sound.size} candidates have no finite numbers: none are left to compare"
        )
    from scipy.stats import rankdata

    first = int(x.argmin())
    constant = np.ptp(x) == 0 or np.ptp(y) == 0
    tau, p = (float("nan"), 1.0) if constant else _kendall(x, y)
    ahead = y > y[first] if better == "higher" else y < y[first]
    return RankAgreement(
        better, x.size, int((~sound).sum()), tau, None if constant else _interval(x, y, resamples, seed), p,
        _pearson(rankdata(x), rankdata(y)), _pearson(x, y), int(places[first]), float(ahead.mean()), _opposite(x, y, better),
    )  # fmt: skip


def _kendall(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import kendalltau

    found: Any = kendalltau(x, y)
    return float(found.statistic), float(found.pvalue)


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = x - x.mean(), y - y.mean()
    own = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / own if own > 0 else float("nan")


def _signs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(values[:, None] - values[None])


def _opposite(x: NDArray[np.float64], y: NDArray[np.float64], better: str) -> float:
    product = _signs(x) * _signs(y) * (1 if better == "lower" else -1)
    ordered = np.count_nonzero(product)
    return float(np.count_nonzero(product < 0) / ordered) if ordered else float("nan")


def _interval(x: NDArray[np.float64], y: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, float] | None:
    """Percentiles of tau-b over resampled candidates: a candidate drawn twice is tied with itself."""
    drawn = bootstrap_rows(seed, 0, resamples, x.size)
    times = np.stack([np.bincount(row, minlength=x.size) for row in drawn]).astype(np.float64)
    a, b = _signs(x), _signs(y)
    cross, own_a, own_b = (((times @ matrix) * times).sum(1) for matrix in (a * b, a * a, b * b))
    defined = (own_a > 0) & (own_b > 0)
    if not defined.any():
        return None
    taus = cross[defined] / np.sqrt(own_a[defined] * own_b[defined])
    low, high = np.quantile(taus, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def proxy(short: Sequence[float], full: Sequence[float]) -> float:
    """Kendall's tau-b between results after a short and after the whole retraining: high means that the short one will do."""
    return rank_agreement(short, full, better="lower", resamples=1).tau
