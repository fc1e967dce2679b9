"""From densities of weight matrices to widths of layers: the rules of PreCropping, and the densities of its proxy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, BudgetUnreachable

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def by_root(channels: ArrayLike, density: ArrayLike, least: int = 1) -> Counts:
    """Both sides of a matrix shrink alike: width = max(least, floor(sqrt(density) * channels)).

    Args:
        channels: of each layer.
        density: of each layer, > 0.
        least: smallest width.

    Returns:
        int64, never above channels for densities up to 1.
    """
    size, share = np.asarray(channels, dtype=np.int64), check_densities(density)
    return np.minimum(np.maximum(_whole(np.sqrt(share) * size), least), _most(size, share))


def in_sequence(
    channels: Sequence[int], kernel: Sequence[int], density: Sequence[float], least: int = 1, *, inputs: int = 3
) -> Counts:
    """A chain of layers, each as wide as its weights allow after the layer before it was cut.

    Args:
        channels: outputs of each layer.
        kernel: side of each square kernel.
        density: of each layer.
        least: smallest width.
        inputs: channels of the first layer's input.

    Returns:
        int64: clip(floor(density * weights / (width before * kernel^2)), least, channels).
    """
    share = check_densities(density)
    dense, before, widths = inputs, inputs, []
    for size, side, part in zip(channels, kernel, share.tolist()):
        widths.append(from_weights(part * (dense * size * side**2), before * side**2, size, least))
        dense, before = size, widths[-1]
    return np.asarray(widths, dtype=np.int64)


def from_weights(weights: float, per_output: float, channels: int, least: int) -> int:
    """Outputs that fit into so many weights, between `least` and `channels`."""
    return int(min(max(int(_whole(np.float64(weights / per_output))), least), channels))


def water_filling(params: ArrayLike, total: float, most: float = 1.0) -> Floats:
    """Densities of equal kept weights, small layers dense: min(most, t / params), adding up to `total` weights.

    It maximises the sum of log densities: what is left of the expected synaptic flow of a network without shortcuts.

    Args:
        params: weights of each layer.
        total: weights that stay.
        most: largest density; above 1 layers may grow.

    Raises:
        BudgetUnreachable: more is asked than all layers may hold.
    """
    size = np.asarray(params, dtype=np.float64)
    if size.size == 0 or size.min() <= 0 or total <= 0:
        raise BadInput(f"layers and the total need weights: {size.size} layers, total {total:g}")
    if total > most * size.sum() * (1 + 1e-12):
        raise BudgetUnreachable(
            f"{total:g} weights in layers that hold {most * size.sum():g}", nearest=f"{most * size.sum():g}"
        )
    caps = np.sort(most * size)
    below = np.concatenate([[0.0], np.cumsum(caps)])
    levels = (total - below[:-1]) / np.arange(size.size, 0, -1)  # the level if the k smallest layers are full
    full = int(np.argmax(levels <= caps)) if (levels <= caps).any() else size.size - 1
    return np.minimum(most, levels[full] / size)


def check_densities(density: ArrayLike) -> Floats:
    """float64; refuses what is not finite or not above 0."""
    share = np.asarray(density, dtype=np.float64)
    if not np.isfinite(share).all() or (share.size and share.min() <= 0):
        raise BadInput(f"densities are finite and above 0, not {share.min() if share.size else share}")
    return share


def _whole(value: ArrayLike) -> NDArray[np.int64]:
    """The integer part, as the paper's formulas have it: no slack for rounding."""
    return np.floor(value).astype(np.int64)


def _most(size: Counts, share: Floats) -> Counts:
    return np.where(share > 1, np.maximum(size, _whole(np.sqrt(share) * size)), size)
