"""The best matrix of low rank beside another one: what a layer lost, as its inputs see it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NOISE = 1e-12  # of the largest entry: what is smaller is rounding, which depends on the number of threads
CLAMP = 1e-10  # of the largest eigenvalue: directions that no input took still have an inverse


@dataclass(frozen=True)
class LowRankFit:
    """`b @ a` close to a matrix.

    Attributes:
        a: float64 `[rank, inputs]`.
        b: float64 `[outputs, rank]`.
        singular: float64, all singular values in the metric, falling; those after the first `rank` are what stays unrepaired.
        eigenvalues: float64 `[inputs]` of the metric, rising and clamped; ones without a metric.
    """

    a: Tensor
    b: Tensor
    singular: Tensor
    eigenvalues: Tensor


def low_rank(delta: Tensor, rank: int, gram: Tensor | None = None) -> LowRankFit:
    """The `b @ a` of a rank that minimises trace((delta - b a) gram (delta - b a)^T), in float64.

    The square root of each singular value goes to either side. Eckart-Young after whitening by the eigenvectors of `gram`, which
    stay orthonormal however close to singular it is.

    Args:
        delta: `[outputs, inputs]`.
        rank: at most min(outputs, inputs) is used.
        gram: `[inputs, inputs]`, X X^T of the inputs in any scale; None, or one of zeros, weighs all inputs alike.
    """
    delta = delta.double()
    inputs = delta.shape[1]
    if gram is None or not bool(gram.any()):
        values, vectors = torch.ones(inputs, dtype=torch.float64), torch.eye(inputs, dtype=torch.float64)
    else:
        values, vectors = torch.linalg.eigh(gram.double())
        values = values.clamp_min(CLAMP * float(values[-1]))
    root = values.sqrt()
    u, singular, vt = torch.linalg.svd(delta @ vectors * root, full_matrices=False)
    rank = min(rank, len(singular))
    share = singular[:rank].sqrt()
    a = share.unsqueeze(1) * vt[:rank] / root @ vectors.T
    return LowRankFit(_without_noise(a), _without_noise(u[:, :rank] * share), singular, values)


def _without_noise(matrix: Tensor) -> Tensor:
    return matrix.masked_fill(matrix.abs() < NOISE * matrix.abs().max(), 0.0)
