"""Gradient of the mean loss with respect to every parameter, over all rows of the pass.

`stats.grad` belongs to the module's weight, `grad.bias` and the like to its other parameters; see
`ModuleSignals.parameter`. The loss is the step's, averaged over rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.signals.modules import field_of, own_parameters
from prunus.signals.scan import Accumulator, check_finite
from prunus.train.step import Step

PROVIDES = ("grad",)
LEVEL = "modules"
VERSION = 1
MEMORY = "12 * parameters"


class Accumulate(Accumulator):
    """Sums in float64 across batches."""

    BACKWARD = "parameters"

    def start(self) -> None:
        """List the parameters, tied ones once."""
        self._parameters = own_parameters(self.scan.modules)
        self._sums: list[Tensor | None] = [None] * len(self._parameters)
        self._rows = 0

    def targets(self) -> list[Tensor]:
        """All of them."""
        return [parameter for _, _, parameter in self._parameters]

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Add up; a parameter that the loss does not reach keeps zero."""
        self._rows += self.scan.rows
        for position, grad in enumerate(grads):
            if grad is None:
                continue
            check_finite(grad, self._parameters[position][0], "gradient")
            total = self._sums[position]
            self._sums[position] = grad.double() if total is None else total.add_(grad)
        return {}

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """Mean over rows, float32; float64 for parameters that are."""
        found: dict[str, dict[str, Tensor]] = {}
        for (name, key, parameter), total in zip(self._parameters, self._sums):
            kind = torch.float64 if parameter.dtype == torch.float64 else torch.float32
            total = torch.zeros_like(parameter, dtype=torch.float64) if total is None else total
            mean = (total / max(self._rows, 1)).to(kind)
            found.setdefault(name, {})[field_of("grad", key)] = mean.cpu()
        return found
