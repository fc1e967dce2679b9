"""MACs: multiply-accumulate operations of one row, counted exactly on the recorded graph, fused attention included.

Removes: nothing.
Needs: the model and one batch of rows.
Cost: one recorded forward pass on shapes.
Departures: none. A MAC is one multiplication and addition; a FLOP count is twice as much. A ratio of MACs is not a speed-up.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunus.core.registry import measure
from prunus.measure.measured import Measured
from prunus.prunables.example import example_of
from prunus.prunables.model import ModelPrunable


@measure(needs=())
def macs(model: nn.Module, data: Any, *, step: Any = None, dense: nn.Module | None = None) -> Measured:
    """`macs` of one row, and with `dense` also `mac_ratio` (dense / pruned).

    Args:
        data: rows, of which the first are used for their shapes.
        step: not read.
        dense: what the ratio compares with.
    """
    own = _macs(model, data)
    found: dict[str, tuple[float, None]] = {"macs": (own, None)}
    if dense is not None:
        found["mac_ratio"] = (_macs(dense, data) / own, None)
    return Measured(found, of="one row")


def _macs(model: nn.Module, data: Any) -> float:
    return ModelPrunable(model, example_of(data, model)).count()["macs"]
