"""What a run of blocks does to the stream, and how much of it the last matrix before the run could do.

For a block, h is what it gives, m what its last matrix gives (which the block adds to the stream), and r what the next `lag`
blocks make of h. run_angle: the mean over tokens of arccos(cos(h, r)) / pi (Gromov et al. 2024, over all tokens).
run_gram: the sum of m^T m, run_cross: the sum of m^T (r - h), both `[d, d]` (ReplaceMe, Shopkhoev et al. 2025). Padding does not count.

Options: `lag` (1 by default), and `runs`: block -> its last matrix, for every block in order. Found by structure by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.maths.cosine import angle, cosine
from prunus.signals.block_influence import layer_names
from prunus.signals.scan import CHUNK, Accumulator, check_finite, is_matrix, tokens
from prunus.train.step import Step

PROVIDES = ("run_angle", "run_gram", "run_cross")
LEVEL = "modules"
VERSION = 1
MEMORY = "16 * blocks * width ** 2"


class Accumulate(Accumulator):
    """Sums for each block that `lag` blocks follow, float64."""

    def start(self) -> None:
        """Hook the blocks and their last matrices. Option `layers` restricts what is summed, not what is seen."""
        runs: Mapping[str, str] = self.scan.options.get("runs") or last_matrices(self.scan.model)
        self._blocks, self._lag = list(runs), int(self.scan.options.get("lag", 1))
        if not 1 <= self._lag < len(self._blocks):
            raise BadInput(f"a run of {self._lag} blocks needs a block before it, and there are {len(self._blocks)}")
        self._asked = set(self.scan.options.get("layers") or self._blocks)
        self._seen: dict[str, Tensor] = {}
        self._sums: dict[str, dict[str, Tensor]] = {}
        for name in {*runs, *runs.values()}:
            self.scan.after(self.scan.model.get_submodule(name), self._hook(name))
        self._runs = runs

    def _hook(self, name: str) -> Any:
        def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            out = output[0] if isinstance(output, tuple) else output
            self._seen[name] = out.detach()

        return after

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """After the forward pass, when every block has been seen."""
        seen = {name: self._rows(x, name) for name, x in self._seen.items()}
        self._seen.clear()
        for before, after in zip(self._blocks, self._blocks[self._lag :]):
            if before in self._asked:
                self._add(before, seen[before], seen[self._runs[before]], seen[after])
        return {}

    def _rows(self, x: Tensor, name: str) -> Tensor:
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        found = tokens(x.flatten(2).transpose(1, 2) if x.dim() == 4 else x, self.scan)
        check_finite(found, name, "output")
        return found

    def _add(self, name: str, h: Tensor, m: Tensor, r: Tensor) -> None:
        sums = self._sums.setdefault(name, {key: torch.zeros((), dtype=torch.float64) for key in ("count", *PROVIDES)})
        size = CHUNK * max(len(h) // max(self.scan.rows, 1), 1)
        for one, matrix, other in zip(h.split(size), m.split(size), r.split(size)):
            sums["count"] = sums["count"] + len(one)
            if "run_angle" in self.wanted:
                sums["run_angle"] = sums["run_angle"] + angle(cosine(one, other)).sum()
            if "run_gram" in self.wanted:
                sums["run_gram"] = sums["run_gram"] + (matrix.T @ matrix).double()
            if "run_cross" in self.wanted:
                sums["run_cross"] = sums["run_cross"] + (matrix.T @ (other - one)).double()

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """A mean of angles, and sums; float64, on CPU."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, sums in self._sums.items():
            sums["run_angle"] = sums["run_angle"] / sums["count"]
            found[name] = {key: sums[key].cpu() for key in PROVIDES if key in self.wanted}
        return found


def last_matrices(model: nn.Module) -> dict[str, str]:
    """Block -> the last matrix that it defines."""
    found: dict[str, str] = {}
    for block in layer_names(model):
        inside = [name for name, module in model.get_submodule(block).named_modules() if is_matrix(module)]
        if not inside:
            raise BadInput(f"block {block} has no matrix")
        found[block] = f"{block}.{inside[-1]}"
    return found
