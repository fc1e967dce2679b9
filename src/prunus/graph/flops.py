"""Floating-point operations of one row, as scratch training budgets count them (Liu et al. 2019): 2 for every MAC, and the rest.

The rest: biases 1 an output, batch norms 2 an element, ReLUs 1, pooling its window for every output. A ratio of two networks
hardly depends on the factor 2, but it does on whether norms and activations count: here they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from prunus.graph.build import Graph
from prunus.graph.count import Counter
from prunus.graph.trace import Node, Ref, Trace

BIASED = {"conv1d", "conv2d", "conv3d", "convolution", "linear"}
PER_ELEMENT = {"batch_norm": 2, "relu": 1, "relu_": 1}
POOLS = {"max_pool1d": 1, "max_pool2d": 2, "max_pool3d": 3, "avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3}


def count_flops(graph: Graph, density: Mapping[str, float] | None = None) -> float:
    """Operations of one row of the recorded pass.

    Args:
        graph: of the network.
        density: module -> share of its weights that are not zero, whose MACs alone are counted then.
    """
    trace, kept = graph.main.trace, density or {}
    macs = sum(row.macs * kept.get(row.module, 1.0) for row in Counter(graph).table())
    return (2 * macs + sum(_other(node, trace) for node in trace.nodes)) / _rows(trace)


def _rows(trace: Trace) -> int:
    """Rows of the example."""
    return next((value.shape[0] for value in trace.values if value.kind == "input" and value.shape), 1)


def _other(node: Node, trace: Trace) -> int:
    """What an operator does beyond its MACs."""
    out = next((prod(trace.values[value].shape) for value in node.outputs if value is not None), 0)
    if node.op in PER_ELEMENT:
        return PER_ELEMENT[node.op] * out
    if node.op in POOLS:
        return out * _window(node.args[1], POOLS[node.op])
    return out if node.op in BIASED and len(node.args) > 2 and isinstance(node.args[2], Ref) else 0


def _window(kernel: Any, dims: int) -> int:
    sizes = list(kernel) if isinstance(kernel, (tuple, list)) else [kernel]
    return prod(sizes) if len(sizes) > 1 else int(sizes[0]) ** dims
