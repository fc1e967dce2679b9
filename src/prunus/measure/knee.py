"""The knee of a curve: the budget after which keeping more buys little (Satopaa et al. 2011, "Kneedle")."""

from __future__ import annotations

from collections.abc import Sequence

from prunus.core.errors import BadInput

FLAT = 1e-9


def knee(points: Sequence[tuple[float, float]]) -> float | None:
    """Where a rising curve bends: the point that lies highest above the line from its first to its last point.

    Both axes are scaled to 0..1 first. The points must have been measured on rows of role val: this is a choice.

    Args:
        points: (share kept, quality) in any order; quality rises with what is kept, as accuracy does.

    Returns:
        The share kept at the knee; None for fewer than three points, or a curve that does not bend upwards.

    Raises:
        BadInput: two points with the same share.
    """
    ordered = sorted(points)
    shares = [share for share, _ in ordered]
    if len(set(shares)) < len(shares):
        raise BadInput(f"a curve has one point for each share, got {shares}")
    if len(ordered) < 3:
        return None
    (first, low), (last, high) = ordered[0], ordered[-1]
    if high - low <= FLAT:
        return None
    above = [(value - low) / (high - low) - (share - first) / (last - first) for share, value in ordered]
    best = max(range(len(above)), key=above.__getitem__)
    return shares[best] if above[best] > FLAT else None
