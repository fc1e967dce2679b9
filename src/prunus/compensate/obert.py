"""oBERT's update: what stays in a block of weights makes up for what goes (Kurtic et al. 2022).

Removes: nothing; changes the weights that stay.
Needs: fisher_blocks, the block Fisher matrix of the loss, and a mask of weights from any criterion.
Cost: one batched factorisation and one batched solve, weights * width^2 operations.
Departures: all removed weights of a block are solved for at once, which is the best there is for the quadratic model. joint=False is
 the released sum of every removed weight's (or run's) own update, which ignores what they do to each other and can be worse than
 zeroing. Blocks of one weight change nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from prunus.core.errors import BadInput
from prunus.core.registry import compensator
from prunus.maths.block_fisher import check_blocks, damping, update


@compensator(unit="weights", needs=("weight", "fisher_blocks"), card="obert")
def obert(
    layer: Any, kept: np.ndarray, *, damp: float = 0.01, absolute: bool = False, joint: bool = True, group: int = 1
) -> np.ndarray:
    """Weights after the update.

    Args:
        layer: `.weight [outputs, inputs]`, `.fisher_blocks [blocks, width, width]`.
        kept: bool `[outputs, inputs]`, True stays. Weights that are zero already count as gone before.
        damp: added to the diagonal, as a share of its mean.
        absolute: add `damp` itself.
        joint: solve for all removed weights of a block together.
        group: joint=False: consecutive inputs that are solved together.

    Returns:
        float64 `[outputs, inputs]`, zero where not kept.
    """
    weight, mask = layer.weight.detach(), torch.from_numpy(kept)
    if mask.shape != weight.shape:
        raise BadInput(f"{layer.name}: a mask of {tuple(mask.shape)} for weights of {tuple(weight.shape)}")
    check_blocks(layer.name, weight, layer.fisher_blocks, 1 if joint else group)
    add = damping(layer.fisher_blocks, damp, absolute=absolute, name=layer.name)
    new, _ = update(weight, layer.fisher_blocks, ~mask & (weight != 0), add, joint=joint, group=group)
    return new.masked_fill(~mask, 0.0).numpy()
