"""Mean, variance and norm of the inputs of linear and convolution layers, per input channel and kernel tap.

input_mean, input_var: over all tokens or output positions n of the pass (variance with n - 1). input_norm: square root
of the mean over rows of the sum over tokens of x^2, the scale of Wanda's released code; only ratios inside a layer
matter there. Padding tokens do not count; the zeros a convolution pads do, because its weights see them.

A convolution's inputs are never unfolded: x and x^2 are summed over rows once, and each tap sums a window of that map.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.signals.scan import Accumulator, Source, check_finite, row_chunks, tokens

PROVIDES = ("input_mean", "input_var", "input_norm")
LEVEL = "modules"
VERSION = 1
MEMORY = "40 * sum(in_channels * taps) over distinct inputs"
BLOCK = 128  # tokens whose squares are formed at a time: they stay in cache


class _Sums:
    """Sums over tokens of (x - shift) and of its square, float64 `[in, taps]`. The shift keeps the variance exact."""

    def __init__(self) -> None:
        self.count = self.rows = 0
        self.shift: Tensor | None = None
        self.first: Any = 0.0
        self.second: Any = 0.0

    def add(self, first: Tensor, second: Tensor, count: int) -> None:
        self.first, self.second, self.count = self.first + first, self.second + second, self.count + count


class Accumulate(Accumulator):
    """One `_Sums` per distinct input."""

    def start(self) -> None:
        """Subscribe to inputs. The norm alone needs no shift, which saves a pass over the activations."""
        self._sums: dict[Source, _Sums] = {}
        self._plain = self.wanted == frozenset({"input_norm"})
        self.scan.inputs.subscribers.append(self._update)

    def _update(self, source: Source, x: Tensor) -> None:
        sums = self._sums.setdefault(source, _Sums())
        sums.rows += self.scan.rows
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if isinstance(source.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            for chunk, _ in row_chunks(x, self.scan.rows):
                self._convolution(source.module, sums, chunk)
        else:
            self._linear(sums, tokens(x, self.scan))
        check_finite(torch.as_tensor(sums.second), source.names[0], "input")

    def _linear(self, sums: _Sums, x: Tensor) -> None:
        if sums.shift is None and len(x):
            sums.shift = torch.zeros_like(x[0]) if self._plain else x.mean(0)
        if sums.shift is not None:
            first, second = column_sums(x, None if self._plain else sums.shift)
            sums.add(first.unsqueeze(1), second.unsqueeze(1), len(x))

    def _convolution(self, module: Any, sums: _Sums, x: Tensor) -> None:
        if x.dim() == len(module.kernel_size) + 1:
            x = x.unsqueeze(0)
        if not self._plain:
            x = x.double()  # a tap may see little but padding: its variance is a small difference of large sums
        if sums.shift is None:
            sums.shift = x.new_zeros(x.shape[1]) if self._plain else x.transpose(0, 1).flatten(1).mean(1)
        centred = x if self._plain else x - sums.shift.view(-1, *(1,) * (x.dim() - 2))
        outside = -sums.shift.double()
        first = _padded(centred.sum(0, dtype=torch.float64), module, outside * len(x))
        second = _padded(centred.square().sum(0, dtype=torch.float64), module, outside.square() * len(x))
        one, two, positions = _windows(first, second, module)
        sums.add(one, two, positions * len(x))

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """The same tensors for all modules of a source."""
        found: dict[str, dict[str, Tensor]] = {}
        for source in dict.fromkeys(self.scan.inputs.sources.values()):
            fields = self._fields(self._sums[source])
            found |= dict.fromkeys(source.names, fields)
        return found

    def _fields(self, sums: _Sums) -> dict[str, Tensor]:
        if sums.shift is None or not sums.count:
            return {}
        shift = sums.shift.double().unsqueeze(1)
        mean = sums.first / sums.count
        variance = (sums.second - sums.count * mean.square()).clamp_min(0) / max(sums.count - 1, 1)
        squares = sums.second + 2 * shift * sums.first + sums.count * shift.square()
        norm = (squares.clamp_min(0) / max(sums.rows, 1)).sqrt()
        fields = {"input_mean": mean + shift, "input_var": variance, "input_norm": norm}
        return {name: value.float().cpu() for name, value in fields.items() if name in self.wanted}


def column_sums(x: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of (x - shift) and of its square over tokens. x: `[N, d]`; both float64 `[d]`.

    Blocks of 128 tokens are squared in a buffer that stays in cache, summed by BLAS, and added up in float64.
    """
    count, width = x.shape
    blocks = -(-count // BLOCK)
    first = torch.zeros(blocks if shift is not None else 1, width, dtype=x.dtype, device=x.device)
    second = torch.zeros(blocks, width, dtype=x.dtype, device=x.device)
    buffer = torch.empty(BLOCK, width, dtype=x.dtype, device=x.device)
    ones = torch.ones(BLOCK, dtype=x.dtype, device=x.device)
    for number, block in enumerate(x.split(BLOCK)):
        part, one = buffer[: len(block)], ones[: len(block)]
        if shift is None:
            torch.mul(block, block, out=part)
        else:
            torch.sub(block, shift, out=part)
            torch.mv(part.t(), one, out=first[number])
            part.mul_(part)
        torch.mv(part.t(), one, out=second[number])
    return first.double().sum(0), second.double().sum(0)


def _padded(sums: Tensor, module: Any, value: Tensor) -> Tensor:
    """A map of sums `[C, ...]` with the module's padding; padded zeros are `value` per channel in the shifted scale."""
    amounts = list(module._reversed_padding_repeated_twice)
    if isinstance(module.padding, tuple):
        amounts = [amount for size in reversed(module.padding) for amount in (size, size)]
    if not any(amounts):
        return sums
    if module.padding_mode != "zeros":
        return F.pad(sums.unsqueeze(0), amounts, mode=module.padding_mode)[0]
    outside = F.pad(torch.zeros_like(sums[:1]), amounts, value=1.0)
    return F.pad(sums, amounts) + outside * value.view(-1, *(1,) * (sums.dim() - 1))


def _windows(first: Tensor, second: Tensor, module: Any) -> tuple[Tensor, Tensor, int]:
    """Sums of each kernel tap over the positions it visits: two `[C, taps]`, and the number of positions."""
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size)]
    outputs = [(size - r) // s + 1 for size, r, s in zip(first.shape[1:], reach, module.stride)]
    ones: list[Tensor] = []
    twos: list[Tensor] = []
    for tap in product(*(range(k) for k in module.kernel_size)):
        begin = [t * d for t, d in zip(tap, module.dilation)]
        at = (slice(None), *(slice(b, b + s * (o - 1) + 1, s) for b, s, o in zip(begin, module.stride, outputs)))
        ones.append(first[at].flatten(1).sum(1))
        twos.append(second[at].flatten(1).sum(1))
    count = 1
    for size in outputs:
        count *= size
    return torch.stack(ones, 1), torch.stack(twos, 1), count
