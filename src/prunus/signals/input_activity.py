"""Activity of the inputs of linear and convolution layers, channel by channel, as the layer reads it.

input_off `[in, 1]`: share of entries, over all rows and positions, that are not above 0: the zeros of a ReLU, the closed
side of GELU and SiLU. input_pooled `[in, rows]`: mean over positions (over real tokens) of each row; a channel's rows in
ascending order, so that it is a sample that no order of the data changes. Padding tokens do not count, and neither do
the zeros that a convolution pads: they are no channel's activity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.scan import Accumulator, Source, check_finite, tokens

PROVIDES = ("input_off", "input_pooled")
LEVEL = "modules"
VERSION = 1
MEMORY = "4 * rows * sum(in_channels) over distinct inputs"


class Accumulate(Accumulator):
    """A count and a list of pooled batches per distinct input."""

    def start(self) -> None:
        """Subscribe to inputs."""
        self._off: dict[Source, Tensor] = {}
        self._counts: dict[Source, int] = {}
        self._pooled: dict[Source, list[Tensor]] = {}
        self.scan.inputs.subscribers.append(self._update)

    def _update(self, source: Source, x: Tensor) -> None:
        maps = as_maps(source, x)
        check_finite(maps.sum(dtype=torch.float64), source.names[0], "input")
        entries = maps.transpose(0, 1).flatten(1) if maps.dim() != 3 else tokens(maps.transpose(1, 2), self.scan).T
        off = (entries <= 0).sum(1)
        self._off[source] = self._off.get(source, torch.zeros_like(off)) + off
        self._counts[source] = self._counts.get(source, 0) + entries.shape[1]
        if "input_pooled" in self.wanted:
            self._pooled.setdefault(source, []).append(self._pool(maps, source).float().cpu())

    def _pool(self, maps: Tensor, source: Source) -> Tensor:
        """`[rows, in]`."""
        rows, mask = self.scan.rows, self.scan.mask
        if maps.dim() == 3 and mask is not None and mask.shape == (maps.shape[0], maps.shape[2]):
            real = mask.to(maps.device, maps.dtype).unsqueeze(1)
            return (maps * real).sum(2) / real.sum(2).clamp_min(1)
        pooled = maps.flatten(2).mean(2) if maps.dim() > 2 else maps
        if len(pooled) % rows:
            raise BadInput(
                f"{source.names[0]} reads {len(pooled)} entries for {rows} rows: its rows can't be told apart"
            )
        return pooled.reshape(rows, -1, pooled.shape[1]).mean(1)

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """The same tensors for all modules of a source."""
        found: dict[str, dict[str, Tensor]] = {}
        for source, off in self._off.items():
            fields: dict[str, Tensor] = {}
            if "input_off" in self.wanted:
                fields["input_off"] = (off.double() / max(self._counts[source], 1)).float().cpu().unsqueeze(1)
            if source in self._pooled:
                fields["input_pooled"] = torch.cat(self._pooled[source]).T.sort(1).values
            found |= dict.fromkeys(source.names, fields)
        return found


def as_maps(source: Source, x: Tensor) -> Tensor:
    """An input with its channels on axis 1: `[B, in, ...]`; a linear layer's are its last axis."""
    kernel = getattr(source.module, "kernel_size", None)
    if kernel is None:
        return x if x.dim() < 3 else x.flatten(1, -2).transpose(1, 2)
    return x if x.dim() == len(kernel) + 2 else x.unsqueeze(0)
