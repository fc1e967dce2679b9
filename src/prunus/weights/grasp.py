"""GraSP: what a weight does for the norm of the gradient, w (H g), before any training (Wang et al. 2020).

Removes: weights; those whose removal raises the norm of the gradient least, or lowers it, stay. One cut over all layers.
Needs: the Hessian of the mean loss times its gradient over a balanced set of rows, 10 to 25 of each class as a rule; their labels.
Cost: one gradient and one Hessian product over these rows, about three backward passes.
Departures: signed as in the unified code, large stays (the first code removes the largest of -w (H g): the same weights), and
 not divided by the sum. Rows count alike, where the released code sums over batches: the same for batches of one size. The
 plan's `temperature=` (200) divides the logits; one released copy takes the softmax of a softmax. Signed scores disconnect
 networks at extreme budgets: every matrix keeps a minimum (`minimum=`, and at least one weight).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.weights.magnitude import full
from prunus.weights.snip import slope


@criterion(unit="weights", needs=("weight", "hessian_gradient"), sense="keep", within="all", card="pai-baselines")
def grasp(layer: Any) -> Tensor:
    """Weight times the entry of H g.

    Args:
        layer: `.weight` and `.hessian_gradient` `[outputs, inputs]`.

    Returns:
        float `[outputs, inputs]`, of either sign.
    """
    return full(layer.weight) * slope(layer, "hessian_gradient")
