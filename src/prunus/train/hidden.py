"""A lesson in logits and hidden states: the teacher's blocks are compared with the student's, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.train.distillation import hidden_gap, mixed
from prunus.train.step import Step, StepFn, infer_step


class HiddenLesson:
    """A step whose loss is (1 - distill) own + distill T^2 KL + weight * gap of hidden states.

    Args:
        teacher: the dense model, in evaluation mode; the student has the same blocks.
        names: modules whose outputs are compared.
        weight: of the gap.
        distill: weight of the teacher's logits.
        temperature: T.
        step: adapter of a batch; inferred from the first one.

    Raises:
        BadInput: no block to compare.
    """

    def __init__(
        self, teacher: nn.Module, names: Sequence[str], weight: float, distill: float, temperature: float,
        *, step: StepFn | None = None,
    ) -> None:  # fmt: skip
        if not names:
            raise BadInput("this model has no repeated blocks whose hidden states could be compared: use hidden=0")
        self.teacher, self.names, self.weight = teacher, tuple(names), weight
        self.distill, self.temperature, self.own = distill, temperature, step

    def __call__(self, model: nn.Module, batch: Any) -> Step:
        """One batch through both models."""
        self.own = self.own or infer_step(batch)
        with torch.no_grad():
            shown, theirs = self._seen(self.teacher, batch)
        found, ours = self._seen(model, batch)
        gap = self.weight * hidden_gap(ours, theirs)
        if found.logits is None or shown.logits is None:
            raise BadInput("distillation needs logits, which this step does not give")
        taught = mixed(found.loss, found.logits, shown.logits, alpha=self.distill, temperature=self.temperature)
        return replace(found, loss=taught + gap)

    def _seen(self, model: nn.Module, batch: Any) -> tuple[Step, list[Tensor]]:
        assert self.own is not None
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                kept[name] = output if isinstance(output, Tensor) else output[0]

            return hook

        handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in self.names]
        try:
            found = self.own(model, batch)
        finally:
            for handle in handles:
                handle.remove()
        return found, [kept[name] for name in self.names]
