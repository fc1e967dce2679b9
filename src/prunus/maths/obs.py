"""Optimal Brain Surgeon on one layer: scores of input columns and the update of what stays (Hassibi and Stork 1993).

A layer is a matrix `weight [outputs, inputs]`; `hessian [inputs, inputs]` is X X^T of its inputs up to a positive
factor, which cancels everywhere: damping is relative to the diagonal. Everything is done in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput, NonFinite

LADDER = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def damped(hessian: Tensor, damp: float = 0.01) -> Tensor:
    """float64 copy with `damp * mean(diagonal)` added to the diagonal (1 where the whole matrix is zero).

    Raises:
        BadInput: not square, or damp negative.
        NonFinite: the matrix holds NaN or infinity.
    """
    if hessian.ndim != 2 or hessian.shape[0] != hessian.shape[1]:
        raise BadInput(f"a hessian is square, not {tuple(hessian.shape)}")
    if damp < 0:
        raise BadInput(f"damping must be >= 0, not {damp}")
    matrix = hessian.to(torch.float64, copy=True)
    if not torch.isfinite(matrix).all():
        raise NonFinite(
            "the hessian holds NaN or infinity: look for overflow or dead layers in the calibration activations"
        )
    alive = bool(matrix.any())
    matrix.diagonal().add_(damp * float(matrix.diagonal().mean()) if alive else 1.0)
    return matrix


def stacked(hessian: Tensor) -> Tensor:
    """`[groups, d, d]`: a layer's hessian `[d, d]` is that of one group."""
    return hessian if hessian.dim() == 3 else hessian.unsqueeze(0)


def cholesky(hessian: Tensor, damp: float = 0.01) -> tuple[Tensor, Tensor, float]:
    """Factor a damped hessian, damping more (2, 5, 10, ... 100 times) until it is positive definite.

    Returns:
        the damped float64 matrix, its lower Cholesky factor, and the damping that was used.

    Raises:
        BadInput: not positive definite even with 100 times the damping.
    """
    used = damp
    for step in LADDER:
        used = damp * step
        matrix = damped(hessian, used)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed) and bool(torch.isfinite(factor).all()):
            return matrix, factor, used
    raise BadInput(f"the hessian is not positive definite, even damped by {used:g}: collect more inputs or raise damp")


def damped_inverse(hessian: Tensor, damp: float = 0.01) -> Tensor:
    """Inverse of the damped hessian, float64 `[inputs, inputs]`."""
    return torch.cholesky_inverse(cholesky(hessian, damp)[1])


def column_scores(weight: Tensor, inverse: Tensor) -> Tensor:
    """w_ij^2 / inverse_jj: the loss from removing one weight alone, `[outputs, inputs]`."""
    return weight.to(torch.float64).square() / inverse.diagonal()


def block_scores(weight: Tensor, inverse: Tensor, width: int) -> Tensor:
    """Loss from removing `width` consecutive inputs at once, for each such run: sum of w_M inverse_MM^-1 w_M^T.

    Returns:
        float64 `[inputs // width]`.
    """
    outputs, inputs = weight.shape
    count = inputs // width
    blocks = inverse.reshape(count, width, count, width).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    parts = weight.to(torch.float64).reshape(outputs, count, width).permute(1, 2, 0)
    return (parts * torch.linalg.solve(blocks, parts)).sum((1, 2))


def joint_update(weight: Tensor, hessian: Tensor, removed: Tensor, damp: float = 0.01) -> Tensor:
    """Least-squares best weights on the inputs that stay, all removed inputs taken out at once.

    Equal to w - w_M (inverse_MM)^-1 inverse_M: on the damped hessian, written with the block of what stays, which
    needs one factorisation of that block and no inverse.

    Args:
        weight: `[outputs, inputs]`.
        hessian: `[inputs, inputs]`, undamped.
        removed: bool `[inputs]`.
        damp: relative damping; the ridge pulls towards the original weights.

    Returns:
        float64 `[outputs, inputs]`, exactly zero where removed.
    """
    matrix, _, _ = cholesky(hessian, damp)
    new = torch.zeros(weight.shape, dtype=torch.float64)
    kept, gone = ~removed, removed
    old = weight.to(torch.float64)
    if kept.any():
        factor = torch.linalg.cholesky(matrix[kept][:, kept])
        new[:, kept] = old[:, kept] + torch.cholesky_solve(matrix[kept][:, gone] @ old[:, gone].T, factor).T
    return new


def sweep_update(weight: Tensor, hessian: Tensor, removed: Tensor, damp: float = 0.01, block: int = 128) -> Tensor:
    """One pass from left to right: each removed column pushes its error onto later ones (Frantar and Alistarh 2023).

    Cheaper than the joint update for masks that differ between outputs; for whole columns it is only worse. Columns
    before a removed one never change, and errors pushed onto columns that go later can grow: in rare cases (measured
    on random problems) zeroing is better.

    Args:
        block: columns between two updates of the whole rest; it changes speed, not the result.

    Returns:
        float64 `[outputs, inputs]`, exactly zero where removed.
    """
    upper = torch.linalg.cholesky(damped_inverse(hessian, damp), upper=True)
    new = weight.to(torch.float64, copy=True)
    for start in range(0, new.shape[1], block):
        stop = min(start + block, new.shape[1])
        errors = torch.zeros(new.shape[0], stop - start, dtype=torch.float64)
        for column in range(start, stop):
            if removed[column]:
                error = new[:, column] / upper[column, column]
                new[:, column:stop] -= torch.outer(error, upper[column, column:stop])
                errors[:, column - start] = error
        new[:, stop:] -= errors @ upper[start:stop, stop:]
    new[:, removed] = 0.0
    return new


def output_error(change: Tensor, hessian: Tensor) -> float:
    """trace(change H change^T): squared output error of a weight change, in the units of the hessian."""
    change = change.to(torch.float64)
    return float(((change @ hessian.to(torch.float64)) * change).sum())
