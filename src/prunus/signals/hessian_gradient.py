"""H g: the Hessian of the mean loss times its gradient, for the weight of every matrix (what GraSP reads, Wang et al. 2020).

Biases and norms have no part in g, as in the released codes. Logits are divided by `temperature` (200 by default) before the
cross-entropy; 1 takes the step's own loss, whatever it is. Exact whatever the batch size: batches are kept and passed through twice
more at the end.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.curvature import gradient, hessian_product
from prunus.signals.modules import own_parameters
from prunus.signals.scan import Accumulator, check_finite, is_matrix
from prunus.train.step import Step, per_row_loss

PROVIDES = ("hessian_gradient",)
LEVEL = "modules"
VERSION = 1
MEMORY = "20 * weights, and the inputs of all rows"
TEMPERATURE = 200.0


class Accumulate(Accumulator):
    """Everything is computed when the pass is over."""

    BACKWARD = "parameters"

    def start(self) -> None:
        """List the weights, tied ones once."""
        self._temperature = float(self.scan.options.get("temperature", TEMPERATURE))
        if not self._temperature > 0:
            raise BadInput(f"temperature must be above 0, not {self._temperature}")
        matrices = {name: module for name, module in self.scan.modules.items() if is_matrix(module)}
        self._weights = [(name, weight) for name, key, weight in own_parameters(matrices) if key == "weight"]
        self._batches: list[tuple[Any, int]] = []

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Keep the batch."""
        self._batches.append((self.scan.batch, self.scan.rows))
        return {}

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """In the weights' own dtype, float32 at least."""
        weights = [weight for _, weight in self._weights]
        with self.scan.pause():
            first = gradient(self.scan, self._batches, weights, self._loss)
            products = hessian_product(self.scan, self._batches, weights, first, self._loss)
        found: dict[str, dict[str, Tensor]] = {}
        for (name, _), product in zip(self._weights, products):
            check_finite(product, name, "curvature")
            found[name] = {"hessian_gradient": (product if product.element_size() >= 4 else product.float()).cpu()}
        return found

    def _loss(self, step: Step) -> Tensor | None:
        if self._temperature == 1:
            return step.loss
        if step.logits is None or step.labels is None:
            raise BadInput("a temperature divides logits, and this step gives no logits with labels: set temperature=1")
        return per_row_loss(step.logits / self._temperature, step.labels)
