"""Embedding of each row: what the step gives, else the input of the linear layer that makes the logits.

A model without such a head (an encoder that returns `[B, d]`) gives its output. Token features `[B, T, d]` are averaged
over real tokens.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.signals.scan import Accumulator, transposed
from prunus.train.step import Step

PROVIDES = ("embedding",)
LEVEL = "rows"
VERSION = 1
MEMORY = "4 * rows * width"
LAST = 4  # linear calls remembered: the head is among the last, and activations should not pile up


class Accumulate(Accumulator):
    """float32 `[B, d]`. Watches every linear layer of the model and keeps the one whose output is the logits."""

    def start(self) -> None:
        """Hook all linear layers: which one is the head is known after the forward pass only."""
        self._calls: deque[tuple[Tensor, Tensor]] = deque(maxlen=LAST)
        for module in self.scan.model.modules():
            if isinstance(module, nn.Linear) or transposed(module):
                self.scan.after(module, self._saw)

    def _saw(self, module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Tensor) -> None:
        if args:
            self._calls.append((args[0], output))

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """The step's own embedding first."""
        return {"embedding": self.features(step).float()}

    def features(self, step: Step) -> Tensor:
        """`[B, d]` of the batch that just ran, float32 or float64 as the model is."""
        calls, self._calls = self._calls, deque(maxlen=LAST)
        found = step.embedding
        if found is None and step.logits is not None:
            found = _head_input(list(calls), step.logits)
        if found is None:
            raise BadInput("this step gives neither logits nor embedding: return embedding= [B, d] in it")
        found = found.detach()
        return self._pooled(found if found.dtype == torch.float64 else found.float())

    def _pooled(self, x: Tensor) -> Tensor:
        if x.dim() == 2 and len(x) == self.scan.rows:
            return x
        if len(x) != self.scan.rows:
            raise BadInput(f"the features are {list(x.shape)} for {self.scan.rows} rows: return embedding= in the step")
        mask = self.scan.mask
        if mask is None or mask.shape != x.shape[:2]:
            return x.flatten(1, -2).mean(1)
        weight = mask.to(x).unsqueeze(-1)
        return (x * weight).sum(1) / weight.sum(1).clamp_min(1)


def _head_input(calls: list[tuple[Tensor, Tensor]], logits: Tensor) -> Tensor:
    """Input of the layer that made the logits, also where they were scaled or cut afterwards; else the output itself."""
    made = [x for x, output in calls if output is logits]
    like = [x for x, output in calls if output.dim() == logits.dim() and output.shape[-1] == logits.shape[-1]]
    return (made or like or [logits])[-1]
