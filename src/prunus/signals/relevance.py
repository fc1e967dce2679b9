"""Relevance at the outputs of layers: how much of the true class each output carries (LRP; Yeom et al. 2021).

output_relevance, output_relevance_signed `[outputs]`: sum over rows and positions of |R| and of R, where the relevance of
a row starts as 1 at its true class (spread over the labelled tokens of a text) and is propagated back by the rules of
`relevance_rules`. At a convolution with a batch norm behind it R is that of the norm's output.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.relevance_rules import Rules
from prunus.signals.scan import Accumulator, check_finite, is_matrix
from prunus.train.kinds import Conv
from prunus.train.step import IGNORED, Step

PROVIDES = ("output_relevance", "output_relevance_signed")
LEVEL = "modules"
VERSION = 1
MEMORY = "16 * sum(outputs) and three times the activations of a batch"


class Accumulate(Accumulator):
    """Two float64 sums per layer, from a forward and backward pass of its own for each batch."""

    BACKWARD = "activations"

    def start(self) -> None:
        """Know the weights by identity."""
        self._names = {
            id(module.weight): name
            for name, module in self.scan.modules.items()
            if (is_matrix(module) or isinstance(module, Conv)) and isinstance(module.weight, Tensor)
        }
        self._sums: dict[str, Tensor] = {}

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Run the batch again under the rules."""
        assert self.scan.step is not None
        rules = Rules(self._names, self._arrived)
        with self.scan.pause(), rules:
            again = self.scan.step(self.scan.model, self.scan.batch)
        if again.logits is None or again.labels is None or not again.logits.requires_grad:
            raise BadInput(
                "relevance starts at the true class of each row: give labels, and a step that returns logits"
            )
        rules.backward(again.logits, one_hot(again.logits.detach(), again.labels))
        return {}

    def _arrived(self, name: str, relevance: Tensor, axis: int) -> None:
        check_finite(relevance, name, "relevance")
        by_output = relevance.detach().movedim(axis, 0).flatten(1).double()
        total = torch.stack([by_output.abs().sum(1), by_output.sum(1)])
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """float64 `[outputs]` of every layer that relevance reached."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, total in self._sums.items():
            fields = dict(zip(PROVIDES, total.cpu()))
            found[name] = {key: value for key, value in fields.items() if key in self.wanted}
        return found


def one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    """Relevance at the output: 1 for each row, at its class; over the labelled tokens of a text in equal parts.

    Args:
        logits: `[B, c]` or `[B, T, c]`.
        labels: int `[B]` or `[B, T]` (-100 is left out), or float class probabilities of the logits' shape.
    """
    if labels.is_floating_point():
        if labels.shape != logits.shape:
            raise BadInput(f"relevance needs classes: labels {list(labels.shape)} for logits {list(logits.shape)}")
        return labels.to(logits.dtype)
    real = labels != IGNORED
    share = real.to(logits.dtype)
    if labels.dim() > 1:
        share = share / share.flatten(1).sum(1).clamp_min(1).view(-1, *(1,) * (labels.dim() - 1))
    return torch.zeros_like(logits).scatter_(-1, labels.where(real, 0).unsqueeze(-1), share.unsqueeze(-1))
