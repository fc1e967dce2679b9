"""Gradients of single rows in factored form: their norms without the gradients, wherever that is cheaper.

A linear layer's gradient for one row is sum over tokens t of u_t v_t^T, with u the gradient at the output and v the
input, so |G|^2 = sum over t, s of (u_t . u_s)(v_t . v_s): two small Gram matrices instead of an `[out, in]` matrix. An
embedding is the same with u one-hot. A parameter used several times (shared modules, tied weights) sums its factors
before the norm is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from prunus.signals.hessian import padded

HELD = 8_000_000  # numbers of materialised row gradients held at a time


class Factor(Protocol):
    """Gradients of B rows with respect to one parameter, by one call."""

    @property
    def rows(self) -> int:
        """B."""
        ...

    @property
    def size(self) -> int:
        """Elements of the parameter."""
        ...

    def dense(self, start: int, stop: int) -> Tensor:
        """The gradients themselves, `[stop - start, size]`."""
        ...

    def squares(self) -> Tensor:
        """Squared norms, float64 `[B]`."""
        ...


@dataclass
class Dense:
    """Gradients that are small enough to hold: `[B, size]`."""

    values: Tensor

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        return self.values.shape[1]

    def dense(self, start: int, stop: int) -> Tensor:
        return self.values[start:stop]

    def squares(self) -> Tensor:
        return self.values.square().sum(1, dtype=torch.float64)


@dataclass
class Outer:
    """sum over t of left_t right_t^T. left `[B, T, out]`, or int `[B, T]`: one-hot of `width`; right `[B, T, in]`."""

    left: Tensor
    right: Tensor
    width: int

    @property
    def rows(self) -> int:
        return len(self.right)

    @property
    def size(self) -> int:
        return self.width * self.right.shape[2]

    def dense(self, start: int, stop: int) -> Tensor:
        left, right = self.left[start:stop], self.right[start:stop]
        if left.dim() == 3:
            return (left.transpose(1, 2) @ right).flatten(1)
        out = right.new_zeros(len(right), self.width, right.shape[2])
        return out.scatter_add_(1, left.unsqueeze(2).expand_as(right), right).flatten(1)

    def squares(self) -> Tensor:
        tokens, inputs = self.right.shape[1:]
        if self.left.dim() == 3 and tokens == 1:
            return self.left.square().sum((1, 2), dtype=torch.float64) * self.right.square().sum(
                (1, 2), dtype=torch.float64
            )
        if self.left.dim() == 2 or tokens * (self.width + inputs) < 2 * self.width * inputs:
            return products(self, self)
        return _chunked([self])


def products(a: Outer, b: Outer) -> Tensor:
    """Inner products of two factored gradients of the same parameter, row by row, float64 `[B]`."""
    right = a.right @ b.right.transpose(1, 2)
    if a.left.dim() == 3 and b.left.dim() == 3:
        left = a.left @ b.left.transpose(1, 2)
    elif a.left.dim() == 2 and b.left.dim() == 2:
        left = (a.left.unsqueeze(2) == b.left.unsqueeze(1)).to(right.dtype)
    else:
        hot, full = (a, b) if a.left.dim() == 2 else (b, a)
        index = hot.left.unsqueeze(1).expand(-1, full.left.shape[1], -1)
        left = full.left.gather(2, index)  # [B, t of full, t of hot]
        left = left.transpose(1, 2) if hot is a else left
    return (left * right).sum((1, 2), dtype=torch.float64)


@dataclass
class Convolution:
    """Gradient of a 1-D or 2-D convolution's weight. x: its input, delta: the gradient at its output."""

    module: Any
    x: Tensor
    delta: Tensor

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def size(self) -> int:
        return self.module.weight.numel()

    def dense(self, start: int, stop: int) -> Tensor:
        module = self.module
        x, delta = padded(module, self.x[start:stop]), self.delta[start:stop]
        kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
        if len(kernel) == 1:
            x, kernel, stride, dilation = x.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
        columns = x.flatten(2) if kernel == (1, 1) == tuple(stride) else F.unfold(x, kernel, dilation, 0, stride)
        columns = columns.view(len(x), module.groups, -1, columns.shape[-1])
        delta = delta.reshape(len(x), module.groups, -1, columns.shape[-1])
        return (delta @ columns.transpose(2, 3)).flatten(1)

    def squares(self) -> Tensor:
        taps = self.module.weight[0, 0].numel()
        held = max(self.x[0].numel() * taps, self.size)
        return _chunked([self], max(1, HELD // 4 // max(held, 1)))


def squared_norms(factors: Sequence[Factor]) -> Tensor:
    """Squared norms of the sums of these factors, which belong to one parameter. float64 `[B]`."""
    if len(factors) == 1:
        return factors[0].squares()
    outers = [factor for factor in factors if isinstance(factor, Outer)]
    tokens = sum(factor.right.shape[1] for factor in outers)
    if len(outers) == len(factors) and tokens * tokens < 4 * factors[0].size:
        return torch.stack([products(a, b) for a in outers for b in outers]).sum(0)
    return _chunked(factors)


def _chunked(factors: Sequence[Factor], rows: int | None = None) -> Tensor:
    step = rows or max(1, HELD // max(factors[0].size, 1))
    found: list[Tensor] = []
    for start in range(0, factors[0].rows, step):
        total = factors[0].dense(start, start + step)
        for factor in factors[1:]:
            total = total + factor.dense(start, start + step)
        found.append(total.square().sum(1, dtype=torch.float64))
    return torch.cat(found)
