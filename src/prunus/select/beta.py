"""Beta: draws rows by score times a Beta density over their mean probability of the label (Cho et al. 2025, DUAL).

Removes: rows. The less is kept, the more the density moves towards rows the model already gets right early on.
Needs: a score that is not negative (DUAL); the mean probability of the label over the early epochs, recorded with it.
Cost: O(n log n), memory about 6 n numbers.
Departures: constants of the released code: b = C (1 - m) (1 - r^c), a = C + 1 - b with C = 15, r the share that goes, m
  the mean probability of the 10 rows of the largest score, c = 4 (as its example for CIFAR-100; smaller moves
  earlier). The mean is over the epochs of the score; the released script can be read as passing other epochs. Rows are
  drawn in proportion to the weights without replacement, as numpy.random.choice does, but by keyed hash: independent
  of the order of the rows. Probabilities are clipped to [1e-6, 1 - 1e-6], where the density may be infinite or 0. Rows
  of weight 0 come last; the released code fails if it needs one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore, check_finite
from prunus.select.by_label import check_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.core.rng import Rng
    from prunus.select.by_label import Positions

CONCENTRATION = 15.0
ANCHORS = 10
EDGE = 1e-6


@selector(needs=("p_true_early",), within="all")
def beta(score: GroupScore, count: int, *, power: float = 4.0, rng: Rng) -> Positions:
    """Positions of rows drawn without replacement.

    Args:
        score: not negative; large is drawn more often.
        count: rows kept.
        power: c: how late, as more goes, the density moves to easy rows; larger waits longer.
        rng: seed and purpose of the draw.

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: a negative score, or a power that is not positive.
        NonFinite: a value is NaN or infinite.
    """
    check_count(score, count)
    check_finite(score.name, score.values, score.ids)
    values, means = np.asarray(score.values, np.float64), np.asarray(score.signals.p_true_early, np.float64)
    if (values < 0).any():
        raise BadInput(f"{int((values < 0).sum())} scores are negative, and rows are drawn by score: use dual")
    if power <= 0:
        raise BadInput(f"power must be positive, not {power}")
    logs = _log_weights(values, means, score.ids, 1 - count / max(values.size, 1), power)
    arrival = np.log(-np.log(np.maximum(rng.uniform(score.ids), 2.0**-54))) - logs
    return np.lexsort((score.ids, arrival))[:count].astype(np.int64)


def shape(anchor: float, dropped: float, power: float) -> tuple[float, float]:
    """(a, b) of the Beta distribution.

    Args:
        anchor: mean probability of the label of the rows with the largest scores.
        dropped: share of the rows that goes.
        power: see `beta`.
    """
    b = max(CONCENTRATION * (1 - anchor) * (1 - dropped**power), EDGE)
    return CONCENTRATION + 1 - b, b


def _log_weights(
    values: NDArray[np.float64], means: NDArray[np.float64], ids: NDArray[np.generic], dropped: float, power: float
) -> NDArray[np.float64]:
    """Logarithms of score times density; -inf where the score is 0. Float64 `[n]`."""
    from scipy.stats import beta as distribution

    largest = np.lexsort((ids, -values))[:ANCHORS]
    a, b = shape(float(means[largest].mean()) if largest.size else 0.5, dropped, power)
    with np.errstate(divide="ignore"):
        return distribution.logpdf(np.clip(means, EDGE, 1 - EDGE), a, b) + np.log(values)
