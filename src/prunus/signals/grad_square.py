"""Square of each parameter's gradient, row by row, mean over rows: the diagonal of the empirical Fisher matrix.

Near a minimum of a log-likelihood it stands for the diagonal of the Hessian. Each row has a forward and backward pass of
its own: exact for any model, and as slow as that. `stats.grad_square` belongs to the module's weight, `grad_square.bias`
and the like to its other parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.signals.modules import field_of, own_parameters
from prunus.signals.row_grads import row_gradients
from prunus.signals.scan import Accumulator
from prunus.train.step import Step

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
        """One pass for each row of the batch."""
        named = [(name, parameter) for name, _, parameter in self._parameters]
        for of_row in row_gradients(self.scan, named, "grad_square"):
            for total, grad in zip(self._sums, of_row):
                total += grad.double().square()
        self._rows += self.scan.rows
        return {}

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """Mean over rows, float32."""
        found: dict[str, dict[str, Tensor]] = {}
        for (name, key, _), total in zip(self._parameters, self._sums):
            mean = (total / max(self._rows, 1)).float().cpu()
            found.setdefault(name, {})[field_of("grad_square", key)] = mean
        return found
