"""SparseGPT: masks and updates a layer from left to right with one inverse Hessian (Frantar and Alistarh 2023).

Removes: weights, and changes those that stay.
Needs: the hessian X X^T of the layer's inputs over calibration tokens; no labels, no gradients.
Cost: one forward pass, inputs^2 numbers for each distinct input, one factorisation, one pass over the columns.
Departures: exact counts, shared out over column blocks; the released code prunes everything at or below a threshold, one
 weight more in each block than asked (parity="official"). Factors in float64, with damping that grows when the
 factorisation fails. N:M of convolutions runs along input channels. One pass on the dense model by default, where the
 paper sends the data again through each pruned block.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import solver
from prunus.maths.obs import damped_inverse, stacked
from prunus.maths.partial import keep_largest

Pattern = tuple[int, int]
STRIP = 16
"""Columns between two updates of the rest of a block: small enough to stay in cache; speed only."""


@solver(unit="weights", needs=("weight", "hessian"), within="group", card="sparsegpt")
def sparsegpt(
    layer: Any,
    count: int | Pattern,
    *,
    block: int = 128,
    damp: float = 0.01,
    parity: Literal["paper", "official"] = "paper",
    sparsity: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and new weights of one layer.

    Args:
        layer: `.weight [outputs, inputs]`, `.hessian [inputs, inputs]` (`[groups, d, d]` for grouped convolutions), `.taps`.
        count: how many weights stay, or (n, m) for n of every m.
        block: columns whose mask is chosen at once and between two updates of the rest; a multiple of m for n of m.
        damp: share of the mean diagonal that is added to it.
        parity: official drops, in each block, what is at or below the value at index int(size * sparsity).
        sparsity: official only: the exact target; 0 = 1 - count / size.

    Returns:
        bool `[outputs, inputs]` (True stays) and the new weights, float32 (float64 for float64), zero where dropped.

    Raises:
        BadInput: shapes that do not fit, inputs or block no multiple of m.
    """
    weight = layer.weight.detach()
    hessians = stacked(layer.hessian)
    parts = weight.double().chunk(len(hessians))
    taps = int(getattr(layer, "taps", 1))
    target = 0.0
    if isinstance(count, tuple):
        _check_pattern(layer, count, block, taps, weight.shape[1])
    else:
        target = sparsity or 1 - count / weight.numel()
        count = count // len(hessians)
    solved = []
    for part, hessian in zip(parts, hessians):
        if hessian.shape != (part.shape[1],) * 2:
            raise BadInput(f"{layer.name} has {part.shape[1]} inputs but its hessian is {tuple(hessian.shape)}")
        solved.append(_solve(part, hessian, count, block, damp, target if parity == "official" else None, taps))
    mask, new = (torch.cat(pieces) for pieces in zip(*solved))
    return mask.numpy(), new.to(torch.float64 if weight.dtype == torch.float64 else torch.float32).numpy()


def _check_pattern(layer: Any, count: Pattern, block: int, taps: int, inputs: int) -> None:
    n, m = count
    if not 0 < n <= m or inputs // taps % m or block % m:
        channels = inputs // taps
        raise BadInput(f"{layer.name}: {n} of {m} needs {channels} inputs and blocks of {block} to be multiples of {m}")


def _solve(
    weight: Tensor, hessian: Tensor, count: int | Pattern, block: int, damp: float, target: float | None, taps: int
) -> tuple[Tensor, Tensor]:
    """One matrix with one hessian; columns go tap by tap for n of m, so that groups run along channels."""
    order = torch.arange(weight.shape[1])
    if isinstance(count, tuple):
        order = order.reshape(-1, taps).T.reshape(-1)
    weight, hessian = weight[:, order].clone(), hessian.double()[order][:, order]
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1.0
    weight[:, dead] = 0.0
    upper = torch.linalg.cholesky(damped_inverse(hessian, damp), upper=True)
    mask = torch.ones(weight.shape, dtype=torch.bool)
    for start in range(0, weight.shape[1], block):
        stop = min(start + block, weight.shape[1])
        inner = upper[start:stop, start:stop]
        rule = count if isinstance(count, tuple) else _share(count, start, stop, weight.shape[1])
        kept, errors = _sweep(weight[:, start:stop], inner, rule, target)
        mask[:, start:stop] = kept
        weight[:, stop:] -= errors @ upper[start:stop, stop:]
    back = torch.argsort(order)
    return mask[:, back], weight[:, back]


def _share(count: int, start: int, stop: int, inputs: int) -> int:
    """How many of a block stay, so that all blocks add up to the count."""
    return count * stop // inputs - count * start // inputs


def _sweep(weight: Tensor, upper: Tensor, rule: int | Pattern, target: float | None) -> tuple[Tensor, Tensor]:
    """Prune the columns of a block in place, one after the other.

    Returns:
        which weights stay, and each column's scaled error for the update of later blocks.
    """
    scale = upper.diagonal()
    errors = torch.zeros_like(weight)
    kept = torch.ones(weight.shape, dtype=torch.bool)
    if isinstance(rule, int):
        kept = _block_mask((weight / scale).square(), rule, target)
    step = rule[1] * -(-STRIP // rule[1]) if isinstance(rule, tuple) else STRIP
    for start in range(0, weight.shape[1], step):
        stop = min(start + step, weight.shape[1])
        for column in range(start, stop):
            if isinstance(rule, tuple) and column % rule[1] == 0:
                group = slice(column, column + rule[1])
                scores = (weight[:, group] / scale[group]).square().numpy()
                kept[:, group] = torch.from_numpy(keep_largest(scores, rule[0]))
            errors[:, column] = weight[:, column].masked_fill(kept[:, column], 0.0) / scale[column]
            weight[:, column:stop] -= torch.outer(errors[:, column], upper[column, column:stop])
        weight[:, stop:] -= errors[:, start:stop] @ upper[start:stop, stop:]
    weight.masked_fill_(~kept, 0.0)
    return kept, errors


def _block_mask(scores: Tensor, count: int, target: float | None) -> Tensor:
    if target is None:
        return torch.from_numpy(keep_largest(scores.numpy().reshape(1, -1), count)).reshape(scores.shape)
    ordered = scores.reshape(-1).sort().values
    return scores > ordered[min(int(scores.numel() * target), scores.numel() - 1)]
