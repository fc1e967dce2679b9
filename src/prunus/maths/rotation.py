"""Principal axes of a stream, and orthogonal matrices that put them first (SliceGPT, Ashkboos et al. 2024)."""

from __future__ import annotations

import math

import torch
from scipy.linalg import helmert
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.maths.obs import damped


def principal(moment: Tensor, damp: float = 0.01) -> tuple[Tensor, Tensor]:
    """Eigenvalues `[d]`, the largest first, and eigenvectors `[d, d]` in columns, float64, of a second moment.

    Args:
        moment: sum of x x^T over tokens, `[d, d]`.
        damp: `damp * mean(diagonal)` is added to the diagonal.
    """
    values, vectors = torch.linalg.eigh(damped(moment, damp))
    return values.flip(0), vectors.flip(1)


def centred(values: Tensor, axis: int) -> Tensor:
    """`values` minus their mean along an axis: what a layer norm leaves of outputs that lie along it."""
    return values - values.mean(axis, keepdim=True)


def rotation(moment: Tensor, keep: int, *, layer_norm: bool = False, damp: float = 0.01) -> Tensor:
    """Orthogonal q `[d, d]`, float64: `x @ q` has most of the energy of x in its first `keep` entries.

    A norm that divides by the root of the mean square is indifferent to it. A layer norm also subtracts the mean: there q maps
    equal entries to equal entries of the first `keep`, so the mean of what is kept goes as before, and the axes are those of x
    without its mean.

    Args:
        moment: sum of x x^T, `[d, d]`.
        keep: entries that will stay.
        layer_norm: x is read by layer norms.
        damp: as in `principal`.
    """
    size = len(moment)
    if not 1 + layer_norm <= keep <= size:
        raise BadInput(f"{keep} of {size} axes can't stay")
    if not layer_norm:
        return principal(moment, damp)[1]
    inner = centred(centred(moment.double(), 0), 1)
    equal = torch.full((size, 1), 1 / math.sqrt(size), dtype=torch.float64)
    apart = 2 * float(inner.diagonal().sum()) + 1  # puts the axis of equal entries first, where it is taken off
    axes = principal(inner + apart * equal @ equal.T, 0.0)[1][:, 1:]
    mixed = torch.cat([equal, axes[:, : keep - 1]], 1) @ torch.from_numpy(helmert(keep, full=True))
    return torch.cat([mixed, axes[:, keep - 1 :]], 1)
