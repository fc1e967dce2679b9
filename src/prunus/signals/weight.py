"""Weights and biases themselves, as a signal, so that methods get everything from one place. No copy is made."""

from __future__ import annotations

from torch import Tensor

from prunus.signals.scan import Accumulator

PROVIDES = ("weight", "bias")
LEVEL = "modules"
VERSION = 1
MEMORY = "0"


class Accumulate(Accumulator):
    """Views of the parameters, in their own shape and dtype."""

    def finish(self) -> dict[str, dict[str, Tensor]]:
        """Every module that has them."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, module in self.scan.modules.items():
            fields = {key: getattr(module, key, None) for key in sorted(self.wanted)}
            tensors = {key: value.detach() for key, value in fields.items() if isinstance(value, Tensor)}
            if tensors:
                found[name] = tensors
        return found
