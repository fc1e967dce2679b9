"""SNIP: connection sensitivity |w dL/dw| on labelled rows, before any training (Lee et al. 2019). One cut over all layers.

Removes: weights.
Needs: the gradient of the mean loss over a balanced set of rows, 10 of each class as a rule.
Cost: one backward pass over these rows, one number for each weight.
Departures: scores are not divided by their sum over the network, which changes no rank. Every matrix keeps a minimum (`minimum=`,
 and at least one weight): the released cut may empty one. Weights are scored as they are; one released copy draws them anew first,
 so that its ratios belong to another network. `steps=` measures anew as the budget falls (iterative SNIP); a weight that went scores 0.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.weights.magnitude import full


@criterion(unit="weights", needs=("weight", "grad"), sense="keep", within="all", card="pai-baselines")
def snip(layer: Any) -> Tensor:
    """Absolute derivative of the loss by a mask over the weight.

    Args:
        layer: `.weight` and `.grad` `[outputs, inputs]`.

    Returns:
        float `[outputs, inputs]`, at least 0.
    """
    return (full(layer.weight) * slope(layer, "grad")).abs()


def slope(layer: Any, name: str) -> Tensor:
    """A derivative by the layer's weight, in the weight's shape.

    Raises:
        BadInput: it has another number of entries.
    """
    value = getattr(layer, name)
    if value.numel() != layer.weight.numel():
        raise BadInput(f"{layer.name} has weights {tuple(layer.weight.shape)} but {name} of {tuple(value.shape)}")
    return value.reshape(layer.weight.shape)
