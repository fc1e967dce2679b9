"""Second moments of layer inputs: H = 2 X X^T, summed over all tokens or output positions of the pass, without damping.

X is `[in * taps, N]`: channel c owns rows c * taps .. c * taps + taps - 1, as in a flattened weight. This is the second
derivative of the summed squared output error |W X - W' X|^2. Damping is relative to its mean diagonal in all
second-order methods, so its scale is free; SparseGPT's running mean is this divided by the number of sequences.
Padding tokens do not count. A grouped convolution gives one matrix per group, `[groups, d, d]`.

Only blocks on and above the diagonal are multiplied.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.maths.second_moments import add_upper, mirrored
from prunus.signals.scan import CHUNK, Accumulator, Source, check_finite, row_chunks, tokens

PROVIDES = ("hessian",)
LEVEL = "modules"
VERSION = 1
MEMORY = "8 * sum((in_channels * taps) ** 2) over distinct inputs"
UNFOLDED = 4_000_000  # numbers of an unfolded convolution input held at a time


class Accumulate(Accumulator):
    """One float64 matrix per distinct input."""

    def start(self) -> None:
        """Subscribe to inputs."""
        self._sums: dict[Source, Tensor] = {}
        self.scan.inputs.subscribers.append(self._update)

    def _update(self, source: Source, x: Tensor) -> None:
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if isinstance(source.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            for chunk, _ in row_chunks(x, self.scan.rows):
                for columns in unfolded(source.module, chunk):
                    self._add(source, columns)
        else:
            rows = tokens(x, self.scan)
            per_row = max(len(rows) // max(self.scan.rows, 1), 1)
            for chunk in rows.split(CHUNK * per_row):
                self._add(source, chunk.unsqueeze(0))

    def _add(self, source: Source, x: Tensor) -> None:
        """x: `[groups, N, d]`."""
        groups, _, width = x.shape
        total = self._sums.get(source)
        if total is None:
            total = torch.zeros(groups, width, width, dtype=torch.float64, device=x.device)
            self._sums[source] = total
        add_upper(total, x)
        check_finite(total.diagonal(dim1=1, dim2=2), source.names[0], "input")

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """float32, mirrored; the same tensor for all modules of a source."""
        found: dict[str, dict[str, Tensor]] = {}
        for source in dict.fromkeys(self.scan.inputs.sources.values()):
            whole = 2 * mirrored(self._sums.pop(source))
            value = (whole if len(whole) > 1 else whole[0]).float().cpu()
            found |= {name: {"hessian": value} for name in source.names}
        return found


def unfolded(module: Any, x: Tensor) -> Any:
    """Pieces of a convolution's unfolded input, `[groups, N, in / groups * taps]`, a few million numbers at a time."""
    if len(module.kernel_size) > 2:
        raise BadInput("hessian knows 1-D and 2-D convolutions; leave 3-D ones out with modules=")
    if x.dim() == len(module.kernel_size) + 1:
        x = x.unsqueeze(0)
    x = padded(module, x)
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if len(kernel) == 1:
        x, kernel, stride, dilation = x.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
    taps = kernel[0] * kernel[1]
    size = max(1, UNFOLDED // max(x[0].numel() * taps, 1))
    for part in x.split(size):
        columns = F.unfold(part, kernel, dilation, 0, stride)
        batch, _, positions = columns.shape
        grouped = columns.view(batch, module.groups, -1, positions)
        yield grouped.permute(1, 0, 3, 2).reshape(module.groups, batch * positions, -1)


def padded(module: Any, x: Tensor) -> Tensor:
    """A convolution's input with its padding around it, whatever the padding mode."""
    amounts = list(module._reversed_padding_repeated_twice)
    if isinstance(module.padding, tuple):
        amounts = [amount for size in reversed(module.padding) for amount in (size, size)]
    if not any(amounts):
        return x
    return F.pad(x, amounts, mode="constant" if module.padding_mode == "zeros" else module.padding_mode)
