"""Weights as sums of rank-one parts, and the two thinner layers that such a sum is.

A weight `[N, C / groups, *kernel]` is read as `b` matrices `[p, q]` that keep the same rank, by one of three schemes:

    channel    `[groups, N / groups, C / groups * taps]`: a convolution to r channels, then one of size 1 (linear: two linear layers)
    spatial    `[groups, C / groups * kh, N / groups * kw]`: a column of taps to r channels, then a row of taps
    decouple   `[N, C / groups, taps]`: r pointwise channels for each output, then one depth-wise kernel for each of them

Rank r costs `b * r * (p + q)` numbers instead of `b * p * q`. Every scheme is exact for any stride, padding and dilation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor

from prunus.core.errors import BadInput, NonFinite, UnknownName

Scheme = Literal["channel", "spatial", "decouple"]
SCHEMES: tuple[str, ...] = get_args(Scheme)


@dataclass(frozen=True, eq=False)
class Components:
    """Matrices as sums of rank-one parts: `left[b] @ right[b]`, all parts together, is the weight.

    Attributes:
        left: float64 `[b, p, size]`.
        right: float64 `[b, size, q]`.
        scores: float64 `[size]`, how much each part is worth; large stays.
    """

    left: Tensor
    right: Tensor
    scores: Tensor


def scheme_of(shape: tuple[int, ...], wanted: str) -> str:
    """The scheme that a weight of this shape takes: linear layers, kernels of one tap and, for spatial, others than 2-D take `channel`.

    Raises:
        UnknownName: no such scheme.
    """
    if wanted not in SCHEMES:
        raise UnknownName("scheme of factors", wanted, SCHEMES)
    fits = prod(shape[2:]) > 1 and (wanted != "spatial" or len(shape) == 4)
    return wanted if fits else "channel"


def shape_of(shape: tuple[int, ...], groups: int, scheme: str) -> tuple[int, int, int]:
    """(b, p, q) of a weight `[N, C / groups, *kernel]`."""
    outputs, inputs, *kernel = shape
    if scheme == "channel":
        return groups, outputs // groups, inputs * prod(kernel)
    if scheme == "spatial":
        return groups, inputs * kernel[0], outputs // groups * kernel[1]
    return outputs, inputs, prod(kernel)


def as_matrices(weight: Tensor, groups: int = 1, scheme: str = "channel") -> Tensor:
    """`[N, C / groups, *kernel]` -> `[b, p, q]`."""
    shape = shape_of(tuple(weight.shape), groups, scheme)
    if scheme == "spatial":
        outputs, inputs, high, wide = weight.shape
        weight = weight.reshape(groups, outputs // groups, inputs, high, wide).permute(0, 2, 3, 1, 4)
    return weight.reshape(shape)


def as_weight(matrices: Tensor, shape: tuple[int, ...], groups: int = 1, scheme: str = "channel") -> Tensor:
    """`[b, p, q]` -> `[N, C / groups, *kernel]`; turns `as_matrices` back."""
    if scheme != "spatial":
        return matrices.reshape(shape)
    outputs, inputs, high, wide = shape
    apart = matrices.reshape(groups, inputs, high, outputs // groups, wide)
    return apart.permute(0, 3, 1, 2, 4).reshape(shape)


def decomposed(matrices: Tensor, name: str = "") -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors and values in float64: `[b, p, size]`, `[b, size]`, `[b, size, q]`.

    Raises:
        NonFinite: the weight holds NaN or infinity.
    """
    if not torch.isfinite(matrices).all():
        raise NonFinite(f"{name or 'the weight'} holds NaN or infinity")
    return torch.linalg.svd(matrices.double(), full_matrices=False)


def by_energy(matrices: Tensor, name: str = "") -> Components:
    """Singular parts, the square root of the singular value on both sides, scored by `tail_energy`."""
    left, sigma, right = decomposed(matrices, name)
    root = sigma.sqrt()
    return Components(left * root[:, None], root[:, :, None] * right, tail_energy(sigma))


def tail_energy(sigma: Tensor) -> Tensor:
    """Share of the energy that is lost from each part on: `sum_(j >= i) sigma_j^2 / sum sigma^2`.

    Keeping the parts above 1 - e keeps the smallest rank with a share of e (Xu et al. 2018, TRP).

    Args:
        sigma: `[..., size]`, falling; the energies of all matrices before the last axis are pooled.

    Returns:
        `[size]`, falling, from 1; 1 / (i + 1) for a weight of zeros.
    """
    energy = sigma.double().square().reshape(-1, sigma.shape[-1]).sum(0)
    tail = energy.flip(0).cumsum(0).flip(0)
    if float(tail[0]) == 0:
        return 1 / torch.arange(1, len(tail) + 1, dtype=torch.float64)
    return tail / tail[0]


def energy_rank(sigma: Tensor, energy: float) -> Tensor:
    """Smallest rank whose share of the squared singular values is at least `energy`.

    Args:
        sigma: `[..., size]`, falling.
        energy: in (0, 1].

    Returns:
        int64 `[...]`, at least 1.
    """
    if not 0 < energy <= 1:
        raise BadInput(f"the energy that stays is a share above 0, at most 1, not {energy}")
    squares = sigma.square()
    reached = squares.cumsum(-1) >= energy * squares.sum(-1, keepdim=True)
    size = sigma.shape[-1]
    places = torch.arange(1, size + 1, device=sigma.device)
    return torch.where(reached, places, size).amin(-1)  # rounding may leave even the last one below 1


def truncated(
    weight: Tensor, energy: float, *, groups: int = 1, scheme: str = "channel"
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest weight whose matrices have the smallest rank with a share of the energy, each its own.

    Args:
        weight: `[N, C / groups, *kernel]`.
        energy: in (0, 1].
        groups: of the convolution.
        scheme: how the weight is read.

    Returns:
        the weight; the sub-gradient of its nuclear norm, `U_r V_r^T` in the weight's shape; ranks int64 `[b]`.
    """
    shape = tuple(weight.shape)
    left, sigma, right = torch.linalg.svd(as_matrices(weight, groups, scheme), full_matrices=False)
    ranks = energy_rank(sigma, energy)
    stays = torch.arange(sigma.shape[-1], device=sigma.device) < ranks[:, None]
    part = left * stays[:, None]
    near, slope = (part * sigma[:, None]) @ right, part @ right
    return as_weight(near, shape, groups, scheme), as_weight(slope, shape, groups, scheme), ranks


def factors(parts: Components, kept: Tensor, shape: tuple[int, ...], groups: int, scheme: str) -> tuple[Tensor, Tensor]:
    """The weights of the two layers, flattened, from the parts that stay.

    Args:
        parts: of the whole weight.
        kept: int64 `[r]`.
        shape: of the dense weight `[N, C / groups, *kernel]`.
        groups: of the convolution.
        scheme: how the weight was read.

    Returns:
        u `[N, r * taps of the second]` and v `[hidden, inputs * taps of the first]`, hidden = r * groups (decouple: r * N).
    """
    left, right, rank = parts.left[:, :, kept], parts.right[:, kept], len(kept)
    if scheme == "channel":
        return left.reshape(shape[0], rank), right.reshape(groups * rank, -1)
    v = left.transpose(1, 2).reshape(-1, left.shape[1])
    if scheme == "spatial":
        right = right.reshape(groups, rank, shape[0] // groups, shape[3]).transpose(1, 2)
    return right.reshape(shape[0], -1), v


def product(u: Tensor, v: Tensor, shape: tuple[int, ...], groups: int, scheme: str) -> Tensor:
    """The dense weight that two factors stand for: what `factors` made them of, where every part stayed."""
    batch, p, q = shape_of(shape, groups, scheme)
    if scheme == "channel":
        return as_weight(u.reshape(batch, p, -1) @ v.reshape(batch, -1, q), shape, groups, scheme)
    left = v.reshape(batch, -1, p).transpose(1, 2)
    rank = left.shape[2]
    right = u.reshape(batch, rank, q)
    if scheme == "spatial":
        right = u.reshape(groups, shape[0] // groups, rank, shape[3]).transpose(1, 2).reshape(batch, rank, q)
    return as_weight(left @ right, shape, groups, scheme)
