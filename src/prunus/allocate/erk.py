"""ERK: Erdős-Rényi-Kernel densities, denser in small layers (Mocanu et al. 2018; Evci et al. 2020).

Removes: nothing itself; splits a budget of weights over layers.
Needs: the shape of every weight, (out, in) or (out, in, kernel...); no data, no scores.
Cost: O(g^2) for g layers.
Departures: all layers that reach density 1 at the same factor become dense together, as in the released code of
  random pruning; some copies add one a round. Densities become whole counts by largest remainder within floors and
  caps, so the total is exact. ER treats a convolution by its two first axes, as released. A depth-wise convolution
  has `in` = 1 by torch's convention. Counts per layer below 1 round to 0 unless a floor says otherwise; plans give
  every layer a floor of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from prunus.allocate.apportion import apportion
from prunus.allocate.request import Counts, Floats, Request
from prunus.core.errors import BadInput
from prunus.core.registry import allocator


@allocator(needs=("shapes",), card="random-pruning")
def erk(request: Request, *, kind: Literal["erk", "er"] = "erk", power: float = 1.0) -> Counts:
    """Weights kept in each layer under ER or ERK densities.

    Args:
        request: the layers with their shapes and the total number of weights.
        kind: erk counts the sides of the kernel, er the outputs and inputs only.
        power: exponent of the raw density.

    Returns:
        int64 `[g]`, adding up to the total.
    """
    if request.shapes is None:
        raise BadInput("erk needs the shape of every weight, and the request has none")
    for name, shape, size in zip(request.names, request.shapes, request.sizes.tolist()):
        if math.prod(shape) != size:
            raise BadInput(f"group {name!r} has {size} weights but shape {shape}")
    order = request.by_name
    share = request.whole_total / max(int(request.sizes.sum()), 1)
    found = densities([request.shapes[int(group)] for group in order], share, kind=kind, power=power)
    weights = np.zeros(order.size)
    weights[order] = found * request.sizes[order]
    return apportion(request, weights)


def densities(
    shapes: Sequence[Sequence[int]], density: float, *, kind: Literal["erk", "er"] = "erk", power: float = 1.0
) -> Floats:
    """Density of each layer, so that `sum(densities * sizes) == density * sum(sizes)` and none exceeds 1.

    Args:
        shapes: of the weights, at least two axes each; zeros behind the second axis are padding and ignored.
        density: share of all weights that stays, 0..1.
        kind: erk or er.
        power: exponent of the raw density.

    Returns:
        float64 `[g]`.
    """
    if not 0 <= density <= 1:
        raise BadInput(f"density must lie between 0 and 1, not {density}")
    trimmed = [tuple(shape[:2]) + tuple(side for side in shape[2:] if side) for shape in shapes]
    if bad := [shape for shape in trimmed if len(shape) < 2 or min(shape) < 1]:
        raise BadInput(
            f"erk needs weights of two axes or more, without empty ones, not {bad[0]}: leave biases and norms out"
        )
    sizes = np.array([math.prod(shape) for shape in trimmed], dtype=np.float64)
    raw = np.array([_raw(shape, kind) ** power for shape in trimmed])
    dense = np.zeros(len(trimmed), dtype=bool)
    while not dense.all():
        factor = (density * sizes.sum() - sizes[dense].sum()) / float(raw[~dense] @ sizes[~dense])
        largest = float(raw[~dense].max())
        if factor * largest <= 1:
            return np.where(dense, 1.0, factor * raw)
        dense |= raw == largest
    return np.ones(len(trimmed))


def _raw(shape: tuple[int, ...], kind: str) -> float:
    sides = shape if kind == "erk" else shape[:2]
    return sum(sides) / math.prod(sides)
