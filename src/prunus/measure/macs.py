"""MACs: multiplications of one forward pass, counted by the operator table of the graph.

Removes: nothing.
Needs: the model and one row.
Cost: one recorded forward pass; on a copy without values where the model allows it.
Departures: fused attention is counted (torch's own counter misses it on a CPU). A masked model has as many as the dense one.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunus.core.errors import BadInput
from prunus.core.registry import measure
from prunus.graph.build import build
from prunus.graph.count import count
from prunus.measure.inputs import first_inputs
from prunus.measure.measured import Measured


@measure(needs=())
def macs(model: nn.Module, data: Any, *, step: Any = None, batch: int = 1) -> Measured:
    """`macs` of one row.

    Args:
        step: not read.
        batch: rows in the recorded pass; the count is divided by it.
    """
    args, keywords = first_inputs(data, batch)
    if args and keywords:
        raise BadInput("macs are counted on positional or on keyword arguments, not on both")
    rows = len(next(iter(keywords.values()))) if keywords else len(args[0])
    counts = count(build(model, keywords or args))
    return Measured({"macs": (counts.macs / max(rows, 1), None)}, rows_recorded=rows)
