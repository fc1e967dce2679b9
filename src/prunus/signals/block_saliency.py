"""Saliency of blocks: scores of weights summed over the weight matrices of each block of a stack (layer lottery 2023).

block_l1 sum |w|; block_snip sum |w g|; block_grasp sum -w (H g), with g the gradient of the mean loss over all rows of
the pass and H its Hessian; block_synflow sum w dR/dw on |w| and an input of ones; block_weights how many. Norms and
biases do not count. Evaluation mode: where norms have running statistics that nothing has set yet, re-estimate them first
(recovery bn_stats). Curvature is exact whatever the batch size: batches are kept and passed through twice more at the end.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.signals.block_influence import layer_names
from prunus.signals.curvature import gradient, hessian_product
from prunus.signals.scan import Accumulator, check_finite
from prunus.signals.synflow import Flow
from prunus.train.step import Step, one_row

PROVIDES = ("block_l1", "block_snip", "block_grasp", "block_synflow", "block_weights")
LEVEL = "modules"
VERSION = 1
MEMORY = "20 * parameters, and the inputs of all rows"
BY_DATA = frozenset({"block_snip", "block_grasp"})


class Accumulate(Accumulator):
    """Everything is computed when the pass is over. Option `layers`: names; by default the model's stacks of blocks."""

    BACKWARD = "parameters"

    def start(self) -> None:
        """Know the blocks and their matrices."""
        modules = dict(self.scan.model.named_modules())
        names = self.scan.options.get("layers") or layer_names(self.scan.model)
        self._blocks = {str(name): matrices(modules[name]) for name in names}
        self._batches: list[tuple[Any, int]] = []
        for block, weights in self._blocks.items():
            check_finite(_sum(weight.detach() for weight in weights), block, "weights")

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Keep the batch; one is enough where no loss is needed."""
        made = step.logits if step.logits is not None else step.loss
        if made is not None:
            check_finite(made, "the model", "output")
        if not self._batches or self.wanted & BY_DATA:
            self._batches.append((self.scan.batch, self.scan.rows))
        return {}

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """float64 numbers for each block."""
        scores: dict[str, dict[str, Tensor]] = {}
        with self.scan.pause():
            if self.wanted & BY_DATA:
                scores = self._by_gradient()
            if "block_synflow" in self.wanted:
                scores["block_synflow"] = self._by_flow()
        named = {id(p): name for name, p in self.scan.model.named_parameters()}
        found: dict[str, dict[str, Tensor]] = {}
        for block, weights in self._blocks.items():
            sums = {key: _sum(values[named[id(w)]] for w in weights) for key, values in scores.items()}
            sums["block_l1"] = _sum(weight.detach().abs() for weight in weights)
            sums["block_weights"] = torch.tensor(float(sum(w.numel() for w in weights)), dtype=torch.float64)
            found[block] = {key: value for key, value in sums.items() if key in self.wanted}
            for key, value in found[block].items():
                check_finite(value, block, key.replace("_", " "))
        return found

    def _by_gradient(self) -> dict[str, dict[str, Tensor]]:
        named = {name: p for name, p in self.scan.model.named_parameters() if p.requires_grad}
        parameters = list(named.values())
        first = gradient(self.scan, self._batches, parameters)
        found = {"block_snip": {n: (p.detach() * g).abs() for (n, p), g in zip(named.items(), first)}}
        if "block_grasp" in self.wanted:
            bent = hessian_product(self.scan, self._batches, parameters, first)
            found["block_grasp"] = {n: -p.detach() * h for (n, p), h in zip(named.items(), bent)}
        return found

    def _by_flow(self) -> dict[str, Tensor]:
        batch, rows = self._batches[0]
        step = self.scan.step
        assert step is not None

        def logits(model: nn.Module, example: Any) -> Any:
            found = step(model, example)
            return found.logits if found.logits is not None else found.loss

        return Flow(self.scan.model, one_row(batch, 0, rows), logits).scores()


def matrices(block: nn.Module) -> list[nn.Parameter]:
    """The weight matrices of a block: parameters of two axes or more, tied ones once."""
    found = [p for p in block.parameters() if p.dim() > 1 and p.is_floating_point()]
    if not found:
        raise BadInput(f"a block of class {type(block).__name__} has no weight matrix to score")
    return found


def _sum(parts: Any) -> Tensor:
    return torch.stack([cast("Tensor", part).double().sum().cpu() for part in parts]).sum()
