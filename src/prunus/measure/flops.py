"""FLOPs: operations of one row with norms, activations and pooling, as budgets of training from scratch count them (Liu et al. 2019).

Removes: nothing.
Needs: the model and one batch of rows.
Cost: one recorded forward pass on shapes.
Departures: none on convolutional networks. The released count knows no attention; here its MACs are those of the graph. Zeros of a
 masked model are multiplied all the same, so they count, unless `nonzero` asks what a sparse kernel would do.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunus.core.registry import measure
from prunus.graph.flops import count_flops
from prunus.measure.measured import Measured
from prunus.prunables.example import example_of
from prunus.prunables.model import ModelPrunable, is_matrix


@measure(needs=(), card="rethinking-value")
def flops(
    model: nn.Module, data: Any, *, step: Any = None, dense: nn.Module | None = None, nonzero: bool = False
) -> Measured:
    """`flops` of one row, and with `dense` also `flop_ratio` (dense / pruned).

    Args:
        data: rows, of which the first are used for their shapes.
        step: not read.
        dense: what the ratio compares with.
        nonzero: count only MACs with weights that are not zero.
    """
    own = flops_of(model, data, nonzero=nonzero)
    found: dict[str, tuple[float, None]] = {"flops": (own, None)}
    if dense is not None:
        found["flop_ratio"] = (flops_of(dense, data, nonzero=nonzero) / own, None)
    return Measured(found, of="one row", counted="2 per MAC, biases, norms, ReLU, pooling")


def flops_of(model: nn.Module, data: Any, *, nonzero: bool = False) -> float:
    """Operations of one row; see `graph.flops`.

    Args:
        model: any that runs a forward pass.
        data: rows, of which the first is used for its shape.
        nonzero: count only MACs with weights that are not zero.
    """
    return count_flops(ModelPrunable(model, example_of(data, model)).graph, densities(model) if nonzero else None)


def densities(model: nn.Module) -> dict[str, float]:
    """Module -> share of its weights that are not zero, for matrices that hold zeros."""
    weights = {path: getattr(module, "weight", None) for path, module in model.named_modules() if is_matrix(module)}
    shares = {path: float((weight != 0).double().mean()) for path, weight in weights.items() if weight is not None}
    return {path: share for path, share in shares.items() if share < 1}
