"""How well the kept units cover all of them: the coverage curve and the area under it (Zheng et al. 2022).

A p-partial r-cover is a set of balls of radius r around the kept points that holds a share p of all points. The curve gives
the least r for every p; its area is the mean distance of a point to the nearest kept one. Lower is better coverage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, NonFinite

BLOCK = 1024
KEPT_BLOCK = 4096


def coverage_curve(points: NDArray[np.floating], kept: NDArray[np.floating]) -> NDArray[np.float64]:
    """Least radius that covers each share of the points.

    Args:
        points: `[n, d]`, preferably held out (every kept point covers itself).
        kept: `[m, d]`, features of the kept units.

    Returns:
        float64 `[n]`, ascending: entry i is the radius that covers (i + 1) / n of the points. Euclidean.
    """
    return np.sort(nearest(points, kept))


def auc_pr(points: NDArray[np.floating], kept: NDArray[np.floating]) -> float:
    """Area under the coverage curve: the mean distance to the nearest kept point."""
    return float(nearest(points, kept).mean())


def nearest(points: NDArray[np.floating], kept: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance of each point to the nearest kept one, float64 `[n]`, in blocks of 1024 x 4096 distances."""
    if points.ndim != 2 or kept.ndim != 2 or points.shape[1] != kept.shape[1] or not points.size or not kept.size:
        raise BadInput(f"points and kept must be [n, d] and [m, d] and not empty, not {points.shape} and {kept.shape}")
    for name, array in (("points", points), ("kept", kept)):
        if not np.isfinite(array).all():
            raise NonFinite(f"{int((~np.isfinite(array)).any(1).sum())} {name} hold NaN or infinity")
    best = np.full(points.shape[0], np.inf)
    for start in range(0, kept.shape[0], KEPT_BLOCK):
        centres = kept[start : start + KEPT_BLOCK].astype(np.float64)
        norms = np.einsum("md,md->m", centres, centres)
        for low in range(0, points.shape[0], BLOCK):
            block = points[low : low + BLOCK].astype(np.float64)
            squares = norms - 2 * block @ centres.T
            found = squares.min(1) + np.einsum("nd,nd->n", block, block)
            best[low : low + BLOCK] = np.minimum(best[low : low + BLOCK], found)
    return np.sqrt(np.maximum(best, 0.0))
