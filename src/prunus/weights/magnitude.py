"""Magnitude: |w|, the baseline of every paper since LeCun et al. 1989, standard since Han et al. 2015.

Removes: weights.
Needs: the weights only.
Cost: one pass over the weights.
Departures: the cut keeps exact counts (the select room says how ties and released thresholds differ). Magnitudes of
 different layers compare only when layers have like scales: batch norms folded into convolutions, or layer scales,
 make a global cut meaningless.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion


@criterion(unit="weights", needs=("weight",), sense="keep", within="group", card="magnitude-nm")
def magnitude(layer: Any) -> Tensor:
    """Absolute value.

    Args:
        layer: `.weight [outputs, inputs]`.

    Returns:
        float `[outputs, inputs]`; half precision becomes float32.
    """
    return full(layer.weight).abs()


def full(weight: Tensor) -> Tensor:
    """At least float32, outside of autograd: scores are compared on the CPU, where half precision is slow and
    coarse."""
    weight = weight.detach()
    return weight if weight.element_size() >= 4 else weight.float()
