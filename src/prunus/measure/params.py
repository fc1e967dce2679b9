"""Parameters: how many numbers the model holds, shared ones once.

Removes: nothing.
Needs: the model.
Cost: one pass over the parameters.
Departures: none. A masked model holds as many as before; `nonzero_params` tells the zeros.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunus.core.registry import measure
from prunus.measure.measured import Measured


@measure(needs=())
def params(model: nn.Module, data: Any = None, *, step: Any = None) -> Measured:
    """`params` (elements of all parameters, ties once), `nonzero_params`.

    Args:
        data: not read.
        step: not read.
    """
    found = list(model.parameters())
    total = sum(p.numel() for p in found)
    nonzero = sum(int(p.count_nonzero()) for p in found)
    return Measured({"params": (float(total), None), "nonzero_params": (float(nonzero), None)})
