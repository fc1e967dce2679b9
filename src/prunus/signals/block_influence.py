"""Block influence: how far a layer turns the hidden state, the mean of 1 - cos(input, output) (ShortGPT 2024).

Taken at the layer's raw output by hooks: a model's own hidden_states end after the final norm, which falsifies the last
layer. Row-wise cosine, no T x T product. A zero vector counts as 0.5, as in the released code, whose sum over tokens
includes padding; ours is a mean without it. block_angle: the mean of arccos(cos) / pi. block_tokens: how many counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.maths.cosine import angle, cosine
from prunus.signals.scan import Accumulator, check_finite, row_chunks

PROVIDES = ("block_influence", "block_angle", "block_tokens")
LEVEL = "modules"
VERSION = 1
MEMORY = "24 * layers"


class Accumulate(Accumulator):
    """A sum and a count per layer, float64. Option `layers`: names; by default the model's stacks of like blocks."""

    def start(self) -> None:
        """Hook the layers."""
        names = self.scan.options.get("layers") or layer_names(self.scan.model)
        modules = dict(self.scan.model.named_modules())
        self._sums = {str(name): 0.0 for name in names}
        self._angles = dict.fromkeys(self._sums, 0.0)
        self._counts = dict.fromkeys(self._sums, 0)
        for name in self._sums:
            self.scan.after(modules[name], self._hook(name))

    def _hook(self, name: str) -> Callable[..., None]:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = args[0] if args else kwargs.get("hidden_states")
            out = output[0] if isinstance(output, tuple) else output
            if isinstance(before, Tensor) and isinstance(out, Tensor) and before.shape == out.shape:
                self._add(name, before.detach(), out.detach())

        return after

    def _add(self, name: str, before: Tensor, after: Tensor) -> None:
        if before.dim() == 4:  # feature maps: a position is a token
            before, after = before.movedim(1, -1), after.movedim(1, -1)
            before, after = before.flatten(1, 2), after.flatten(1, 2)
        for (x, start), (y, _) in zip(row_chunks(before, self.scan.rows), row_chunks(after, self.scan.rows)):
            part = _part(self.scan.mask, start, x)
            alike = cosine(_flat(x, part), _flat(y, part))
            check_finite(alike, name, "output")
            self._sums[name] += float((1 - alike).sum(dtype=torch.float64))
            if "block_angle" in self.wanted:
                self._angles[name] += float(angle(alike).sum(dtype=torch.float64))
            self._counts[name] += alike.numel()

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """Float64 numbers for each layer that keeps the shape of its input."""
        return {name: self._fields(name) for name, count in self._counts.items() if count}

    def _fields(self, name: str) -> dict[str, Tensor]:
        count = self._counts[name]
        found = {
            "block_influence": self._sums[name] / count,
            "block_angle": self._angles[name] / count,
            "block_tokens": float(count),
        }
        return {key: torch.tensor(value, dtype=torch.float64) for key, value in found.items() if key in self.wanted}


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Blocks of a class that occurs twice or more in stacks (ModuleList, Sequential of one class), outermost stacks only.

    Raises:
        BadInput: the model has no such stack.
    """
    stacks: list[str] = []
    found: list[tuple[str, type[nn.Module]]] = []
    for name, module in model.named_modules():
        children = dict(module.named_children()) if isinstance(module, (nn.ModuleList, nn.Sequential)) else {}
        alike = len({type(child) for child in children.values()}) == 1
        composite = alike and all(any(True for _ in child.children()) for child in children.values())
        if composite and not any(name.startswith(f"{outer}.") for outer in stacks):
            stacks.append(name)
            found += [(f"{name}.{key}" if name else key, type(child)) for key, child in children.items()]
    kinds = [kind for _, kind in found]
    names = tuple(name for name, kind in found if kinds.count(kind) > 1)
    if not names:
        raise BadInput("the model has no stack of like blocks; name its layers: layers=('encoder.0', ...)")
    return names


def _part(mask: Tensor | None, start: int, x: Tensor) -> Tensor | None:
    return None if mask is None else mask[start : start + len(x)]


def _flat(x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None and x.shape[:2] == mask.shape:
        return x[mask.to(x.device)]
    return x.reshape(-1, x.shape[-1])
