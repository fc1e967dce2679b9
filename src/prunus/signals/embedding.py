"""Embedding of each row: what the step gives, else the input of the last linear layer (the penultimate features).

Token features `[B, T, d]` are averaged over real tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.signals.scan import Accumulator, transposed
from prunus.train.step import Step

PROVIDES = ("embedding",)
LEVEL = "rows"
VERSION = 1
MEMORY = "4 * rows * width"


class Accumulate(Accumulator):
    """float32 `[B, d]`. Watches every linear layer of the model and keeps the one whose output is the logits."""

    def start(self) -> None:
        """Hook all linear layers: which one is the head is known after the forward pass only."""
        self._calls: list[tuple[Tensor, Tensor]] = []
        for module in self.scan.model.modules():
            if isinstance(module, nn.Linear) or transposed(module):
                self.scan.after(module, self._saw)

    def _saw(self, module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Tensor) -> None:
        if args:
            self._calls.append((args[0], output))

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """The step's own embedding first."""
        calls, self._calls = self._calls, []
        found = step.embedding
        if found is None:
            heads = [x for x, output in calls if output is step.logits]
            found = heads[-1] if heads else calls[-1][0] if calls else None
        if found is None:
            raise BadInput(
                "no linear layer was called, so there is no penultimate feature: return embedding= in the step"
            )
        return {"embedding": self._pooled(found.detach().float())}

    def _pooled(self, x: Tensor) -> Tensor:
        if x.dim() == 2 and len(x) == self.scan.rows:
            return x
        if len(x) != self.scan.rows:
            raise BadInput(
                f"the last linear layer saw {list(x.shape)} for {self.scan.rows} rows: return embedding= in the step"
            )
        mask = self.scan.mask
        if mask is None or mask.shape != x.shape[:2]:
            return x.flatten(1, -2).mean(1)
        weight = mask.to(x).unsqueeze(-1)
        return (x * weight).sum(1) / weight.sum(1).clamp_min(1)
