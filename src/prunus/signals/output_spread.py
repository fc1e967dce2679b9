"""Spread at the outputs of a layer over the spread of what it reads, summed over positions (Beta-Rank 2023).

output_spread `[outputs]`: for each position the deviation over rows of the raw output (before norm and activation), over
the deviation over rows, window and channels of the input window that made it, padded zeros included; positions whose
window never changes are left out. output_spread_official takes the windows of the released code, which slide over the
channel and row axes of the input instead of rows and columns. All rows of the pass count as one batch. Deviations are of
the population. A linear layer has one position: all its tokens, padding left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.hessian import padded
from prunus.signals.scan import Accumulator, check_finite, is_matrix, row_chunks, tokens

PROVIDES = ("output_spread", "output_spread_official")
LEVEL = "modules"
VERSION = 1
MEMORY = "16 * sum(outputs * positions)"
SLIDE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Moments:
    """Count, mean and squares of shifted values, float64; the shift keeps the variance exact."""

    def __init__(self) -> None:
        self.shift: Any = None
        self.count: Any = 0.0
        self.first: Any = 0.0
        self.second: Any = 0.0

    def add(self, count: Any, first: Tensor, second: Tensor) -> None:
        """Sums over `count` shifted values and over their squares."""
        if isinstance(self.first, Tensor) and self.first.shape != first.shape:
            raise BadInput(f"positions differ between batches ({list(self.first.shape)}, {list(first.shape)})")
        self.count, self.first, self.second = self.count + count, self.first + first, self.second + second

    def deviation(self) -> Tensor:
        """Of the population; 0 where nothing was counted."""
        count = torch.as_tensor(self.count, dtype=torch.float64).clamp_min(1)
        return ((self.second - self.first.square() / count) / count).clamp_min(0).sqrt()


class Accumulate(Accumulator):
    """Moments per output and position, and per window, of every matrix module."""

    def start(self) -> None:
        """Hook the modules."""
        self._outputs: dict[str, Moments] = {}
        self._windows: dict[tuple[str, str], Moments] = {}
        self._groups: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        for name, module in self.scan.modules.items():
            if is_matrix(module):
                self.scan.after(module, self._hook(name))

    def _hook(self, name: str) -> Callable[..., None]:
        def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            check_finite(output, name, "output")
            self._rows[name] = self._rows.get(name, 0) + self.scan.rows
            if hasattr(module, "kernel_size"):
                batched = x.dim() == len(module.kernel_size) + 2
                self._convolution(name, module, *(v.detach() if batched else v.detach()[None] for v in (x, output)))
            else:
                self._linear(name, tokens(x.detach(), self.scan), tokens(output.detach(), self.scan))

        return after

    def _linear(self, name: str, x: Tensor, y: Tensor) -> None:
        self._add_outputs(name, y)
        moments = self._windows.setdefault((name, "output_spread"), Moments())
        centred = self._centred(moments, x)
        moments.add(centred.numel(), centred.sum()[None], centred.square().sum()[None])

    def _convolution(self, name: str, module: Any, x: Tensor, y: Tensor) -> None:
        self._groups[name] = int(module.groups)
        for (a, _), (b, _) in zip(row_chunks(x, len(x)), row_chunks(y, len(y))):
            self._add_outputs(name, b)
            if "output_spread" in self.wanted:
                moments = self._windows.setdefault((name, "output_spread"), Moments())
                moments.add(*window_sums(module, self._centred(moments, padded(module, a))))
            if "output_spread_official" in self.wanted and a.dim() == 4:
                moments = self._windows.setdefault((name, "output_spread_official"), Moments())
                moments.add(*released_sums(module, self._centred(moments, a), b))

    def _add_outputs(self, name: str, y: Tensor) -> None:
        moments = self._outputs.setdefault(name, Moments())
        if moments.shift is None:
            moments.shift = y.double().mean(0)
        if moments.shift.shape != y.shape[1:]:
            raise BadInput(f"{name} gives maps of several sizes: beta rank needs rows of one size")
        centred = y.double() - moments.shift
        moments.add(len(y), centred.sum(0), centred.square().sum(0))

    def _centred(self, moments: Moments, x: Tensor) -> Tensor:
        if moments.shift is None:
            moments.shift = x.double().mean()
        return x.double() - moments.shift

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """float64 `[outputs]` of every module that ran.

        Raises:
            BadInput: one row only: nothing varies.
        """
        found: dict[str, dict[str, Tensor]] = {}
        if self._rows and max(self._rows.values()) < 2:
            raise BadInput("the spread over rows needs two rows or more; this pass had one")
        for (name, signal), window in self._windows.items():
            spread = summed_ratio(self._outputs[name].deviation(), window.deviation(), self._groups.get(name, 1))
            found.setdefault(name, {})[signal] = spread.cpu()
        return found


def window_sums(module: Any, x: Tensor) -> tuple[float, Tensor, Tensor]:
    """Numbers in each window, their sums and sums of squares `[groups, ...positions]`; x padded, `[B, C, ...]`."""
    rows, channels = x.shape[:2]
    grouped = x.reshape(rows, module.groups, channels // module.groups, *x.shape[2:])
    maps = torch.stack([grouped.sum((0, 2)), grouped.square().sum((0, 2))]).flatten(0, 1).unsqueeze(1)
    ones = x.new_ones(1, 1, *module.kernel_size)
    sums = SLIDE[len(module.kernel_size)](maps, ones, stride=module.stride, dilation=module.dilation).squeeze(1)
    first, second = sums.chunk(2)
    return float(rows * (channels // module.groups) * ones.numel()), first, second


def released_sums(module: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the released windows: they slide over channels and rows and take in all columns; they end where the
    axes end, and stride is the whole part of input over output width."""
    stride, kernel = max(x.shape[3] // y.shape[3], 1), module.kernel_size
    maps = torch.stack([torch.full(x.shape[1:3], float(x.shape[0] * x.shape[3]), dtype=x.dtype, device=x.device),
                        x.sum((0, 3)), x.square().sum((0, 3))])  # fmt: skip
    reach = [(size - 1) * stride + side for size, side in zip(y.shape[2:], kernel)]
    maps = F.pad(maps, (0, max(reach[1] - maps.shape[2], 0), 0, max(reach[0] - maps.shape[1], 0)))
    sums = F.conv2d(maps[:, : reach[0], : reach[1]].unsqueeze(1), x.new_ones(1, 1, *kernel), stride=stride)
    count, first, second = sums
    return count, first, second


def summed_ratio(outputs: Tensor, window: Tensor, groups: int = 1) -> Tensor:
    """sum over positions of outputs / window, positions with a window that never changes left out.

    Args:
        outputs: `[K, ...]`.
        window: `[groups or 1, ...]`.

    Returns:
        float64 `[K]`.
    """
    if len(window) not in (1, groups):
        raise BadInput(f"{len(window)} windows for {groups} groups of outputs")
    shared = window.repeat_interleave(len(outputs) // len(window), 0).reshape(len(outputs), -1)
    ratio = outputs.reshape(len(outputs), -1) / shared.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(shared > 0, ratio, torch.zeros_like(ratio)).sum(1)
