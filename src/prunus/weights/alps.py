"""ALPS: the layer problem by operator splitting, then exact least squares on what it chose (Meng et al. 2024).

Removes: weights, and changes those that stay.
Needs: the hessian X X^T of the layer's inputs over calibration tokens.
Cost: one eigendecomposition of inputs^3, then in each round two products with it, outputs * inputs^2, and one partition of the weights;
 at the end one least squares under the mask.
Departures: no card; written from the paper (arXiv 2406.07831). Inputs are scaled to a unit diagonal of the hessian, as there. The
 penalty rho starts at 0.1 of the mean eigenvalue and grows by 1.3, 1.2 or 1.1 every 3 rounds as more or less of the mask moved (bounds
 10 % and 0.5 %), until no weight moved in 3 rounds: the paper's rule; the constants are decided here. The last step runs to a
 tolerance, where the paper takes 10 iterations. It is run from ADMM's mask and from SparseGPT's result, and the better one is
 returned: so the error is never above that of SparseGPT.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import NonFinite
from prunus.core.registry import solver
from prunus.maths.obs import cholesky, output_error, stacked
from prunus.maths.partial import keep_largest
from prunus.maths.supported import supported
from prunus.weights.sparsegpt import sparsegpt

EVERY = 3
GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
Pattern = tuple[int, int]


@solver(unit="weights", needs=("weight", "hessian"), within="group")
def alps(
    layer: Any,
    count: int | Pattern,
    *,
    damp: float = 0.01,
    rounds: int = 300,
    iterations: int = 100,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and new weights of one layer.

    Args:
        layer: `.weight [outputs, inputs]`, `.hessian [inputs, inputs]` (`[groups, d, d]` for grouped convolutions), `.taps`.
        count: how many weights stay, or (n, m) for n of every m.
        damp: share of the mean diagonal that is added to it; more when the factorisation fails.
        rounds: of ADMM, at most.
        iterations: of conjugate gradients at the end, at most.

    Returns:
        bool `[outputs, inputs]` (True stays) and the new weights, float32 (float64 for float64), zero where dropped.

    Raises:
        BadInput: shapes that do not fit, inputs no multiple of m. NonFinite: weights or hessian hold NaN or infinity.
    """
    weight = layer.weight.detach()
    if not bool(torch.isfinite(weight).all()):
        raise NonFinite(f"{layer.name} holds NaN or infinity: check the weights of the model")
    rival_mask, rival = (
        torch.from_numpy(part) for part in sparsegpt(layer, count, damp=damp)
    )  # checks the shapes, too
    hessians = stacked(layer.hessian)
    pieces = [part.chunk(len(hessians)) for part in (weight.double(), rival_mask, rival.double())]
    share = count if isinstance(count, tuple) else count // len(hessians)
    taps = int(getattr(layer, "taps", 1))
    solved: list[tuple[Tensor, Tensor]] = []
    for dense, mask, other, hessian in zip(*pieces, hessians):
        matrix = cholesky(hessian, damp)[0]
        found = _admm(dense, matrix, share, taps, rounds)
        ends = [(found, supported(dense, matrix, found, iterations=iterations))]
        ends.append((mask, supported(dense, matrix, mask, start=other, iterations=iterations)))
        solved.append(min(ends, key=lambda end: output_error(end[1] - dense, matrix)))
    mask, new = (torch.cat(parts) for parts in zip(*solved))
    return mask.numpy(), new.to(torch.float64 if weight.dtype == torch.float64 else torch.float32).numpy()


def _admm(dense: Tensor, hessian: Tensor, count: int | Pattern, taps: int, rounds: int) -> Tensor:
    """Which weights stay, bool `[outputs, inputs]`."""
    scale = hessian.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(hessian / scale / scale.unsqueeze(1))
    goal = dense * scale
    turned = (goal @ vectors) * values
    split, dual = goal.clone(), torch.zeros_like(goal)
    rho, before = 0.1 * float(values.mean()), torch.ones_like(goal, dtype=torch.bool)
    kept = before
    for number in range(1, rounds + 1):
        smooth = ((turned + (rho * split - dual) @ vectors) / (values + rho)) @ vectors.T
        kept = _largest((smooth + dual / rho).square(), count, taps)
        split = torch.where(kept, smooth + dual / rho, 0.0)
        dual = dual + rho * (smooth - split)
        if number % EVERY == 0:
            moved = float((kept ^ before).sum()) / max(int(kept.sum()), 1)
            if moved == 0:
                break
            rho *= next(factor for bound, factor in GROWTH if moved >= bound)
            before = kept
    return kept


def _largest(scores: Tensor, count: int | Pattern, taps: int) -> Tensor:
    values = scores.numpy()
    if not isinstance(count, tuple):
        return torch.from_numpy(keep_largest(values.reshape(1, -1), count)).reshape(scores.shape)
    n, m = count
    outputs, inputs = values.shape
    grouped = values.reshape(outputs, inputs // taps, taps).swapaxes(1, 2)
    mask = keep_largest(grouped.reshape(-1, m), n).reshape(outputs, taps, inputs // taps).swapaxes(1, 2)
    return torch.from_numpy(np.ascontiguousarray(mask).reshape(outputs, inputs))
