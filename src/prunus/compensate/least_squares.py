"""Least squares under a mask: the weights that stay are fitted to the dense layer's outputs (Meng et al. 2024, ALPS's last step).

Removes: nothing; changes the weights that stay.
Needs: the hessian X X^T of the layer's inputs over calibration rows, and a mask of weights from any criterion.
Cost: `iterations` products of the weights with the hessian, outputs * inputs^2 each; all outputs together.
Departures: no card; written from the paper. Conjugate gradients with a diagonal preconditioner, in float64, on the damped hessian, stop
 at a tolerance; the paper takes 10 of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from prunus.core.errors import BadInput
from prunus.core.registry import compensator
from prunus.maths.obs import cholesky, stacked
from prunus.maths.supported import supported


@compensator(unit="weights", needs=("weight", "hessian"))
def least_squares(layer: Any, kept: np.ndarray, *, damp: float = 0.01, iterations: int = 100) -> np.ndarray:
    """Best weights of one layer under its mask.

    Args:
        layer: `.weight [outputs, inputs]`, `.hessian [inputs, inputs]` (`[groups, d, d]` for grouped convolutions).
        kept: bool `[outputs, inputs]`, True stays.
        damp: share of the mean diagonal that is added to it; more when the factorisation fails.
        iterations: of conjugate gradients, at most.

    Returns:
        float64 `[outputs, inputs]`, zero where not kept.
    """
    weight, mask = layer.weight.detach().double(), torch.from_numpy(kept)
    hessians = stacked(layer.hessian)
    if mask.shape != weight.shape or hessians.shape[1:] != (weight.shape[1],) * 2:
        shapes = f"mask {tuple(mask.shape)}, hessian {tuple(layer.hessian.shape)}"
        raise BadInput(f"{layer.name} has weights {tuple(weight.shape)}: {shapes} do not fit")
    parts = zip(weight.chunk(len(hessians)), hessians, mask.chunk(len(hessians)))
    solved = [supported(w, cholesky(hessian, damp)[0], m, iterations=iterations) for w, hessian, m in parts]
    return torch.cat(solved).numpy()
