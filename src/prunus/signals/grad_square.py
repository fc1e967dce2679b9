"""Square of each parameter's gradient, row by row, mean over rows: the diagonal of the empirical Fisher matrix.

Near a minimum of a log-likelihood it stands for the diagonal of the Hessian. Each row has a forward and backward pass of
its own: exact for any model, and as slow as that. `stats.grad_square` belongs to the module's weight, `grad_square.bias`
and the like to its other parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.modules import field_of, own_parameters
from prunus.signals.scan import Accumulator, check_finite
from prunus.train.step import Step, one_row

PROVIDES = ("grad_square",)
LEVEL = "modules"
VERSION = 1
MEMORY = "16 * parameters"


class Accumulate(Accumulator):
    """Sums in float64."""

    BACKWARD = "parameters"

    def start(self) -> None:
        """List the parameters, tied ones once."""
        self._parameters = own_parameters(self.scan.modules)
        self._sums = [torch.zeros_like(parameter, dtype=torch.float64) for _, _, parameter in self._parameters]
        self._rows = 0

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """One pass for each row of the batch, without the hooks of other signals."""
        for row in range(self.scan.rows):
            with self.scan.pause():
                self._one(one_row(self.scan.batch, row, self.scan.rows))
        self._rows += self.scan.rows
        return {}

    def _one(self, batch: object) -> None:
        assert self.scan.step is not None
        loss = self.scan.step(self.scan.model, batch).loss
        if loss is None or not loss.requires_grad:
            raise BadInput("grad_square needs a loss for each row: give labels, or a step that returns loss")
        parameters = [parameter for _, _, parameter in self._parameters]
        grads = torch.autograd.grad(loss.sum(), parameters, materialize_grads=True)
        for (name, _, _), total, grad in zip(self._parameters, self._sums, grads):
            check_finite(grad, name, "gradient")
            total += grad.double().square()

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """Mean over rows, float32."""
        found: dict[str, dict[str, Tensor]] = {}
        for (name, key, _), total in zip(self._parameters, self._sums):
            mean = (total / max(self._rows, 1)).float().cpu()
            found.setdefault(name, {})[field_of("grad_square", key)] = mean
        return found
