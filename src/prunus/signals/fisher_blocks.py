"""Block-diagonal empirical Fisher matrix of each weight: the mean over batches of g g^T, g the gradient of the batch's mean loss.

A weight is flattened output by output (a layer stored as [in, out] is turned first) and cut into blocks of `fisher_block`
consecutive weights (50 by default), the last one padded with zeros; a width that divides the inputs keeps blocks inside outputs.
Weights that are zero are taken as pruned: their gradient counts as zero, as it does under a mask. With larger batches the gradients,
and so the matrix, shrink by about the batch size: one row to a batch gives the Fisher matrix itself.

The matrix is the largest of all statistics, so it is held in float32, with gradients gathered and added 16 at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.maths.block_fisher import in_blocks
from prunus.signals.scan import Accumulator, check_finite, is_matrix, transposed
from prunus.train.step import Step

PROVIDES = ("fisher_blocks",)
LEVEL = "modules"
VERSION = 1
MEMORY = "4 * (fisher_block + 16) * weights"
WIDTH = 50
GATHERED = 16


class Accumulate(Accumulator):
    """`[blocks, width, width]` for each matrix module."""

    BACKWARD = "parameters"

    def start(self) -> None:
        """List the weights, tied ones once."""
        self._width = int(self.scan.options.get("fisher_block", WIDTH))
        if self._width < 1:
            raise BadInput(f"fisher_block must be at least 1, not {self._width}")
        seen: dict[int, str] = {}
        for name, module in self.scan.modules.items():
            if is_matrix(module):
                seen.setdefault(id(module.weight), name)
        self._names = list(seen.values())
        self._sums: dict[str, Tensor] = {}
        self._gathered: dict[str, list[Tensor]] = {name: [] for name in self._names}
        self._batches = 0

    def targets(self) -> list[Tensor]:
        """The weights."""
        return [self.scan.modules[name].weight for name in self._names]  # pyright: ignore[reportReturnType]

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """One gradient; a weight that the loss does not reach has none."""
        self._batches += 1
        for name, weight, grad in zip(self._names, self.targets(), grads):
            if grad is None:
                continue
            check_finite(grad, name, "gradient")
            live = torch.where(weight.detach() == 0, 0.0, grad.detach().float() / max(self.scan.rows, 1))
            lines = live.transpose(0, 1) if transposed(self.scan.modules[name]) else live
            self._gathered[name].append(in_blocks(lines, self._width))
            if len(self._gathered[name]) == GATHERED:
                self._add(name)
        return {}

    def _add(self, name: str) -> None:
        rows = torch.stack(self._gathered[name], 1)  # [blocks, gathered, width]
        self._gathered[name] = []
        total = self._sums.get(name)
        if total is None:
            self._sums[name] = rows.transpose(1, 2) @ rows
        else:
            total.baddbmm_(rows.transpose(1, 2), rows)

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """Mean over batches; zeros for weights that the loss did not reach."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, weight in zip(self._names, self.targets()):
            if self._gathered[name]:
                self._add(name)
            blocks = -(-weight.numel() // self._width)
            total = self._sums.pop(name, torch.zeros(blocks, self._width, self._width))
            found[name] = {"fisher_blocks": (total / max(self._batches, 1)).cpu()}
        return found
