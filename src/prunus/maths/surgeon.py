"""Choosing which k weights of a block go: a quadratic in zeros and ones (Combinatorial Brain Surgeon, Yu et al. 2022; iCBS, 2024).

x = 1 prunes. With w0 the original weights, w those of now (w0 or 0), dw = w - w0, the change is delta = -(w0 x + dw) and the objective
gm g.delta + 1/2 delta^T H delta + rm |delta|^2 = x^T Q x + const.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

EXHAUSTIVE = 20_000  # choices that are simply all tried
TINY = 1e-12


def problem(
    original: Tensor, now: Tensor, grad: Tensor, hessian: Tensor, *, first: float = 0.75, ridge: float = 0.001
) -> tuple[Tensor, float]:
    """(Q `[B, B]` symmetric, const), float64.

    Args:
        original, now, grad: `[B]`.
        hessian: `[B, B]`.
        first: weight of the linear term.
        ridge: weight of the squared change.
    """
    w, g, h = original.double(), grad.double(), hessian.double()
    dw = now.double() - w
    linear = w * (h @ dw) - first * w * g + ridge * w * (2 * dw + w)
    const = 0.5 * dw @ h @ dw - first * dw @ g + ridge * dw @ dw
    return 0.5 * torch.outer(w, w) * h + torch.diag(linear), float(const)


def scaled(quadratic: Tensor) -> Tensor:
    """Divided by the mean size of its entries that are not zero; what is tiny then becomes zero, whatever its sign."""
    alive = quadratic[quadratic != 0]
    made = quadratic / alive.abs().mean() if len(alive) else quadratic.clone()
    return torch.where(made.abs() <= TINY, 0.0, made)


def value(quadratic: Tensor, x: Tensor) -> float:
    """x^T Q x."""
    return float(x.double() @ quadratic.double() @ x.double())


def solve(quadratic: Tensor, count: int) -> Tensor:
    """The best x with `count` ones, float64 `[B]`: exact for small blocks, else by swaps from the first `count` and from a greedy start.

    Swaps: the best of all pairs, until none is better; r = Q x is kept, so a swap costs B and a look at all pairs B^2.
    """
    size = len(quadratic)
    if math.comb(size, count) <= EXHAUSTIVE:
        return _tried(quadratic, count)
    first = torch.zeros(size, dtype=torch.float64)
    first[:count] = 1
    ends = [_swapped(quadratic, start) for start in (first, _greedy(quadratic, count))]
    return min(ends, key=lambda x: value(quadratic, x))


def _tried(quadratic: Tensor, count: int) -> Tensor:
    chosen = torch.tensor(list(itertools.combinations(range(len(quadratic)), count)), dtype=torch.long)
    x = torch.zeros(len(chosen), len(quadratic), dtype=torch.float64).scatter_(1, chosen.reshape(len(chosen), -1), 1.0)
    return x[int(((x @ quadratic) * x).sum(1).argmin())]


def _greedy(quadratic: Tensor, count: int) -> Tensor:
    x, pulls = torch.zeros(len(quadratic), dtype=torch.float64), torch.zeros(len(quadratic), dtype=torch.float64)
    for _ in range(count):
        best = int(torch.where(x > 0, torch.inf, quadratic.diagonal() + 2 * pulls).argmin())
        x[best] = 1
        pulls += quadratic[best]
    return x


def _swapped(quadratic: Tensor, x: Tensor) -> Tensor:
    x, diagonal = x.clone(), quadratic.diagonal()
    pulls = quadratic @ x
    for _ in range(4 * len(x)):
        ones, zeros = torch.nonzero(x > 0).flatten(), torch.nonzero(x == 0).flatten()
        leave, enter = diagonal[ones] - 2 * pulls[ones], diagonal[zeros] + 2 * pulls[zeros]
        gains = leave.unsqueeze(1) + enter - 2 * quadratic[ones][:, zeros]
        place = int(gains.argmin())
        out, into = ones[place // len(zeros)], zeros[place % len(zeros)]
        if float(gains.flatten()[place]) >= -TINY:
            break
        x[out], x[into] = 0, 1
        pulls += quadratic[into] - quadratic[out]
    return x
