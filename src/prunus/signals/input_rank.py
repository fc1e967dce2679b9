"""Rank of the feature maps that convolutions read: the mean over rows of the rank of each channel's map (HRank 2020).

input_rank `[in, 1]`. A map `[H, W]` has rank 0..min(H, W), by singular values with torch's own tolerance. A linear layer
reads vectors: a row of tokens of one channel is a matrix of one line, of rank 1 unless it is all zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.signals.input_activity import as_maps
from prunus.signals.scan import Accumulator, Source, check_finite

PROVIDES = ("input_rank",)
LEVEL = "modules"
VERSION = 1
MEMORY = "8 * sum(in_channels) over distinct inputs, and the maps of a batch"


class Accumulate(Accumulator):
    """A float64 sum per channel of each distinct input."""

    def start(self) -> None:
        """Subscribe to inputs."""
        self._sums: dict[Source, Tensor] = {}
        self._counts: dict[Source, int] = {}
        self.scan.inputs.subscribers.append(self._update)

    def _update(self, source: Source, x: Tensor) -> None:
        maps = as_maps(source, x)
        check_finite(maps.sum(dtype=torch.float64), source.names[0], "input")
        if maps.dim() > 3:
            flat = maps.reshape(*maps.shape[:2], -1, maps.shape[-1])
            ranks = torch.linalg.matrix_rank(flat.float() if flat.dtype.itemsize < 4 else flat)
        else:
            ranks = (maps != 0).flatten(2).any(2) if maps.dim() > 2 else maps != 0
        total = ranks.sum(0, dtype=torch.float64)
        self._sums[source] = self._sums.get(source, torch.zeros_like(total)) + total
        self._counts[source] = self._counts.get(source, 0) + len(maps)

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """The same tensors for all modules of a source."""
        found: dict[str, dict[str, Tensor]] = {}
        for source, total in self._sums.items():
            mean = (total / max(self._counts[source], 1)).float().cpu().unsqueeze(1)
            found |= {name: {"input_rank": mean} for name in source.names}
        return found
