"""Weight matrices as `[outputs, inputs * taps]`, whatever way round a layer stores them, and back."""

from __future__ import annotations

from torch import Tensor, nn


def stored_as_inputs(module: nn.Module) -> bool:
    """Whether the weight is stored with its inputs first: GPT-2's linear layers (`nf` outputs) and transposed convolutions."""
    linear = not isinstance(module, nn.Linear) and isinstance(getattr(module, "nf", None), int)
    return linear or bool(getattr(module, "transposed", False))


def to_lines(module: nn.Module, value: Tensor) -> Tensor:
    """Something in the shape of the module's weight (a mask, a gradient) as lines; a view where the storage allows it."""
    value = value.transpose(0, 1) if stored_as_inputs(module) else value
    return value.reshape(value.shape[0], -1)


def from_lines(module: nn.Module, lines: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Lines in the stored shape; turns `to_lines` back."""
    if stored_as_inputs(module):
        return lines.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1).contiguous()
    return lines.reshape(shape)
