"""Thresholds on the scales of norms, and the vote of norms that share their channels (MaskSparsity's released rules), and one
threshold for many norms."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, NonFinite

Mask = NDArray[np.bool_]
TINY, DEAD = 1e-18, 1e-3


def energy_threshold(scales: ArrayLike, energy: float = 1e-4) -> float:
    """The threshold below which lie the smallest scales whose squares add up to at most `energy` of all.

    Args:
        scales: of one norm, any sign.
        energy: share of the sum of squares that may go, 0..1.

    Returns:
        half-way between the last that goes and the first that stays; 0 if the smallest alone is more; 1 (all go) for a
        norm whose largest scale is below 1e-3.
    """
    sizes = np.sort(np.maximum(sizes_of(scales), TINY))
    if not 0 <= energy <= 1:
        raise BadInput(f"energy is a share of the sum of squares, not {energy}")
    if sizes[-1] < DEAD:
        return 1.0
    share = np.cumsum(sizes**2) / np.sum(sizes**2)
    first = int(np.argmax(share > energy)) if (share > energy).any() else sizes.size - 1
    return 0.0 if first == 0 else float((sizes[first - 1] + sizes[first]) / 2)


def kept_above(scales: ArrayLike, threshold: float, least: int = 1) -> Mask:
    """True where |scale| > threshold. Where fewer than `least` are: the largest, or, if several are largest, the first.

    Args:
        scales: of one norm.
        threshold: as of `energy_threshold`, or fixed (0.01 in the released script).
        least: channels that stay at least.
    """
    sizes = sizes_of(scales)
    kept = sizes > threshold
    if kept.sum() >= least:
        return kept
    largest = sizes >= np.sort(sizes)[max(sizes.size - least, 0)]
    if largest.sum() > least:
        largest = kept.copy()
        largest[np.flatnonzero(~kept)[: least - int(kept.sum())]] = True
    return largest


def share_threshold(scales: ArrayLike, ratio: float) -> float:
    """The scale below which lies a share of them: the one at position int(n * ratio) in ascending order.

    Args:
        scales: of all norms that share a threshold, any sign.
        ratio: what goes, from 0 to below 1; at 1 the largest stays.
    """
    sizes = np.sort(sizes_of(scales))
    if not 0 <= ratio <= 1:
        raise BadInput(f"the ratio of scales that go is a share, not {ratio}")
    return float(sizes[min(int(sizes.size * ratio), sizes.size - 1)])


def vote(kept: ArrayLike) -> Mask:
    """What stays of channels that several norms scale: unanimous removals first, then fewer votes, until as many go as
    the norm that drops fewest would drop.

    Args:
        kept: bool `[norms, channels]`, each norm's own mask.

    Returns:
        bool `[channels]`.
    """
    masks = np.asarray(kept, dtype=bool)
    if masks.ndim != 2 or not masks.size:
        raise BadInput(f"a vote needs masks [norms, channels], not {masks.shape}")
    against = (~masks).sum(0)
    fewest = int((~masks).sum(1).min())
    needed = next(votes for votes in range(len(masks), 0, -1) if (against >= votes).sum() >= fewest)
    return against < needed


def sizes_of(scales: ArrayLike) -> NDArray[np.float64]:
    """|scales|, float64; refuses NaN, infinity and nothing at all."""
    sizes = np.abs(np.asarray(scales, dtype=np.float64))
    if not sizes.size:
        raise BadInput("a norm without channels has no threshold")
    if not np.isfinite(sizes).all():
        raise NonFinite(f"{int((~np.isfinite(sizes)).sum())} of {sizes.size} scales are NaN or infinite")
    return sizes
