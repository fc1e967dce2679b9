"""Dead neurons: how often outputs of ReLUs are zero, and how often they are zero whatever the input (Liu et al. 2023, AP).

Removes: nothing.
Needs: a model with ReLUs, as modules or as functions; rows, whose labels do not matter.
Cost: one forward pass; 8 bytes for each unit.
Departures: written from the definitions. A unit is one position of the output of one ReLU call, and rows are counted exactly: the
 zero rate is static (units that are zero in every row) plus dynamic (zero in some). The dynamic rate is what AP lowers. GELU and
 SiLU have no zeros and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunus.core.errors import BadInput
from prunus.core.registry import measure
from prunus.measure.measured import Measured, role_facts
from prunus.train.modes import evaluating
from prunus.train.ordered import ordered
from prunus.train.step import infer_step, to_device

RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})


class Zeros(TorchFunctionMode):
    """Counts zeros of every ReLU call inside, unit by unit; `end_batch()` after each forward pass.

    Attributes:
        counts: for each call of a pass, in order, how many rows so far were zero there, int64 `[units]`.
        rows: seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[Tensor] = []
        self.rows = 0
        self._calls: list[Tensor] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the call; count where it is a ReLU."""
        result = func(*args, **(kwargs or {}))
        if func in RELUS:
            self.add(result)
        return result

    def add(self, output: Tensor) -> None:
        """The outputs of one call, `[rows, ...]`."""
        self._calls.append((output.detach() == 0).flatten(1))

    def end_batch(self) -> None:
        """Put the calls of one pass with those before.

        Raises:
            BadInput: another pass had other calls, or units of another number.
        """
        found = [zero.sum(0) for zero in self._calls]
        if self.counts and [len(one) for one in found] != [len(one) for one in self.counts]:
            raise BadInput("the ReLUs of two batches have different units: give rows of one size")
        self.rows += len(self._calls[0]) if self._calls else 0
        self.counts = [a + b for a, b in zip(self.counts, found)] if self.counts else found
        self._calls.clear()

    def rates(self) -> dict[str, float]:
        """zero_rate, static_dead and dynamic_dead, shares of all units (and rows)."""
        if not self.counts or not self.rows:
            raise BadInput("no ReLU ran: this model has no units that can be dead")
        counts = torch.cat(self.counts)
        zero, static = float(counts.double().mean()) / self.rows, float((counts == self.rows).double().mean())
        return {"zero_rate": zero, "static_dead": static, "dynamic_dead": zero - static}


@measure(card="ap")
def dead_neurons(model: nn.Module, data: Any, *, step: Any = None, batch: int = 256, device: str = "cpu") -> Measured:
    """`zero_rate`, `static_dead`, `dynamic_dead`: shares of the outputs of all ReLUs.

    Args:
        step: adapter of a batch; inferred from the first one.
        batch: rows at a time.
        device: where the model runs.
    """
    zeros, place = Zeros(), torch.device(device)
    with evaluating(model), torch.no_grad():
        for found in ordered(data, batch):
            found = to_device(found, place)
            step = step or infer_step(found)
            with zeros:
                step(model.to(place), found)
            zeros.end_batch()
    return Measured({name: (value, None) for name, value in zeros.rates().items()}, **role_facts(data, zeros.rows))
