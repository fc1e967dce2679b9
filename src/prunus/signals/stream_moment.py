"""Second moments of what norms read: the sum over tokens of x x^T, without damping.

A norm is a module without children whose parameters are vectors as long as the last axis of its input: the norms of a
residual stream and, at their own width, those of queries and keys. Padding does not count. Only blocks on and above the
diagonal are multiplied; float64 across chunks of 64 rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prunus.maths.second_moments import add_upper, mirrored
from prunus.signals.scan import CHUNK, Accumulator, check_finite, tokens

PROVIDES = ("stream_moment",)
LEVEL = "modules"
VERSION = 1
MEMORY = "8 * sum(width ** 2) over norms"


class Accumulate(Accumulator):
    """One float64 matrix `[d, d]` for each norm."""

    def start(self) -> None:
        """Hook the norms."""
        self._sums: dict[str, Tensor] = {}
        for name, module in self.scan.modules.items():
            if norm_width(module):
                self.scan.before(module, self._hook(name, norm_width(module)))

    def _hook(self, name: str, width: int) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(x, Tensor) and x.is_floating_point() and x.shape[-1] == width:
                self._add(name, x.detach())

        return before

    def _add(self, name: str, x: Tensor) -> None:
        x = tokens(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, self.scan)
        width = x.shape[1]
        total = self._sums.setdefault(name, torch.zeros(width, width, dtype=torch.float64, device=x.device))
        for part in x.split(CHUNK * max(len(x) // max(self.scan.rows, 1), 1)):
            add_upper(total, part)
        check_finite(total.diagonal(), name, "input")

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """float32, mirrored."""
        found: dict[str, dict[str, Tensor]] = {}
        for name in list(self._sums):
            found[name] = {"stream_moment": mirrored(self._sums.pop(name)).float().cpu()}
        return found


def norm_width(module: nn.Module) -> int:
    """Length of the vectors of a module that has nothing else, 0 for any other module."""
    lengths = {parameter.numel() if parameter.dim() == 1 else 0 for parameter in module.parameters()}
    return lengths.pop() if len(lengths) == 1 and not any(True for _ in module.children()) else 0
