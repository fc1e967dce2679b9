"""Likeness of features with and without a block, by linear CKA.

block_cka: between the input and the output of a block, mean over positions of each row. block_cka_without: between the
last features of the network (see `embedding`) and those of the network without the block: its input is its output. The
second costs one more forward pass for each block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.maths.cka import linear_cka
from prunus.signals import embedding
from prunus.signals.block_influence import layer_names
from prunus.signals.scan import Accumulator, check_finite
from prunus.train.step import Step

PROVIDES = ("block_cka", "block_cka_without")
LEVEL = "modules"
VERSION = 1
MEMORY = "8 * rows * (2 * layers * width + layers * features)"


class Accumulate(Accumulator):
    """Features of all rows are kept. Option `layers`: names; by default the model's stacks of like blocks."""

    def start(self) -> None:
        """Hook the blocks, and watch for the last features."""
        modules = dict(self.scan.model.named_modules())
        names = self.scan.options.get("layers") or layer_names(self.scan.model)
        self._blocks = {str(name): modules[name] for name in names}
        self._around: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self._blocks}
        self._last: dict[str, list[Tensor]] = {}
        self._features = embedding.Accumulate(self.scan, frozenset({"embedding"}))
        if "block_cka" in self.wanted:
            for name, module in self._blocks.items():
                self.scan.after(module, self._hook(name))
        if "block_cka_without" in self.wanted:
            self._features.start()

    def _hook(self, name: str) -> Callable[..., None]:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before, made = block_input(args, kwargs), output[0] if isinstance(output, tuple) else output
            if isinstance(before, Tensor) and before.shape == made.shape:
                self._around[name].append((self._pooled(before), self._pooled(made)))

        return after

    def _pooled(self, x: Tensor) -> Tensor:
        """float64 `[B, d]`: maps over their positions, texts over their real tokens."""
        x = x.detach().double()
        if x.dim() == 4:
            return x.mean((2, 3)).cpu()
        mask = self.scan.mask
        if x.dim() == 3 and mask is not None and mask.shape == x.shape[:2]:
            real = mask.to(x).unsqueeze(-1)
            return ((x * real).sum(1) / real.sum(1).clamp_min(1)).cpu()
        return (x.flatten(1, -2).mean(1) if x.dim() > 2 else x).cpu()

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """The batch again without each block, one after the other."""
        if "block_cka_without" not in self.wanted:
            return {}
        self._last.setdefault("", []).append(self._features.features(step).double().cpu())
        assert self.scan.step is not None
        for name, module in self._blocks.items():
            skip = module.register_forward_hook(_input_instead, with_kwargs=True)
            try:
                with self.scan.pause(but=self._features):
                    again = self.scan.step(self.scan.model, self.scan.batch)
                self._last.setdefault(name, []).append(self._features.features(again).double().cpu())
            except RuntimeError as error:
                raise BadInput(f"the network does not run without block {name} ({error}): name its layers") from error
            finally:
                skip.remove()
        return {}

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """float64 numbers in 0..1 for each block that keeps the shape of its input."""
        found: dict[str, dict[str, Tensor]] = {}
        whole = torch.cat(self._last[""]) if self._last else None
        for name, pairs in self._around.items():
            sides: dict[str, tuple[Tensor, Tensor]] = {}
            if pairs:
                sides["block_cka"] = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])
            if whole is not None:
                sides["block_cka_without"] = whole, torch.cat(self._last[name])
            for x, y in sides.values():
                check_finite(torch.stack([x.sum(), y.sum()]), name, "output")
            found[name] = {key: torch.tensor(linear_cka(x, y), dtype=torch.float64) for key, (x, y) in sides.items()}
        return {name: fields for name, fields in found.items() if fields}


def block_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The hidden state a block is called with."""
    return args[0] if args else kwargs.get("hidden_states")


def _input_instead(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    before, made = block_input(args, kwargs), output[0] if isinstance(output, tuple) else output
    if not isinstance(before, Tensor) or before.shape != made.shape:
        return output  # it changes the shape: it can't be left out, and its likeness is 1
    return (before, *output[1:]) if isinstance(output, tuple) else before
