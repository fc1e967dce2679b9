"""Block-diagonal empirical Fisher matrix of each weight: the mean over rows of g g^T, g the gradient of the row's loss.

A weight is flattened output by output (a layer stored as [in, out] is turned first) and cut into blocks of `fisher_block`
consecutive weights (50 by default), the last one padded with zeros; a width that divides the inputs keeps blocks inside outputs.
Weights that are zero are taken as pruned: their gradient counts as zero, as it does under a mask. oBERT's code takes gradients of
the mean loss of batches instead, which shrinks the matrix by about the size of a batch; here it depends on the rows alone.

The matrix is the largest of all statistics, so it is held in float32, with gradients gathered and added 16 at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.maths.block_fisher import in_blocks
from prunus.signals.row_grads import row_gradients
from prunus.signals.scan import Accumulator, is_matrix, transposed
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
        self._rows = 0

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """One pass for each row of the batch."""
        named = [(name, self._weight(name)) for name in self._names]
        for of_row in row_gradients(self.scan, named, "fisher_blocks"):
            for (name, weight), grad in zip(named, of_row):
                live = torch.where(weight.detach() == 0, 0.0, grad.float())
                lines = live.transpose(0, 1) if transposed(self.scan.modules[name]) else live
                self._gathered[name].append(in_blocks(lines, self._width))
                if len(self._gathered[name]) == GATHERED:
                    self._add(name)
        self._rows += self.scan.rows
        return {}

    def _weight(self, name: str) -> Tensor:
        return self.scan.modules[name].weight  # pyright: ignore[reportReturnType]

    def _add(self, name: str) -> None:
        rows = torch.stack(self._gathered[name], 1)  # [blocks, gathered, width]
        self._gathered[name] = []
        total = self._sums.get(name)
        if total is None:
            self._sums[name] = rows.transpose(1, 2) @ rows
        else:
            total.baddbmm_(rows.transpose(1, 2), rows)

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """Mean over rows; zeros where there were none."""
        found: dict[str, dict[str, Tensor]] = {}
        for name in self._names:
            if self._gathered[name]:
                self._add(name)
            blocks = -(-self._weight(name).numel() // self._width)
            total = self._sums.pop(name, torch.zeros(blocks, self._width, self._width))
            found[name] = {"fisher_blocks": (total / max(self._rows, 1)).cpu()}
        return found
