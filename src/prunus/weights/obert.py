"""oBERT: the loss that a weight costs when its block of the Fisher matrix makes up for it (Kurtic et al. 2022).

Removes: weights, or runs of 4 consecutive inputs (group=4), with one cut over all layers. Its compensator, of the same name, changes
 those that stay.
Needs: fisher_blocks, from gradients of the loss of labelled rows; blocks of `fisher_block` consecutive weights.
Cost: one backward pass for each row; 4 * (width + 16) bytes for each weight; one batched factorisation, weights * width^2 operations.
Departures: one gradient is that of a row, where the released code takes the mean of a batch. The matrix is summed up and inverted
 once (float64), where the released code updates an inverse with one gradient after the other: the same to rounding, and faster.
 Damping is a share of the mean diagonal of the layer (absolute=True: as released, 1e-7 there); a pruned weight is one that is
 zero, scores 0 and goes first. Gradual pruning is `steps=`, which measures anew after each step; with training between the steps,
 plan, apply, train under Masks, and plan again with a smaller budget.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.maths.block_fisher import check_blocks, damping, losses


@criterion(
    unit="weights",
    needs=("weight", "fisher_blocks"),
    sense="keep",
    within="all",
    compensate="obert",
    together="group",
    card="obert",
)
def obert(layer: Any, *, damp: float = 0.01, absolute: bool = False, group: int = 1) -> Tensor:
    """Loss from removing each weight, or its run of weights.

    Args:
        layer: `.weight [outputs, inputs]`, `.fisher_blocks [blocks, width, width]`.
        damp: added to the diagonal, as a share of its mean.
        absolute: add `damp` itself.
        group: consecutive inputs that go together (1 or 4); divides the inputs and the width of the blocks.

    Returns:
        float64 `[outputs, inputs]`; equal for all members of a run.
    """
    check_blocks(layer.name, layer.weight, layer.fisher_blocks, group)
    add = damping(layer.fisher_blocks, damp, absolute=absolute, name=layer.name)
    return losses(layer.weight.detach(), layer.fisher_blocks, add, group)
