"""Residual branches: parts of a block that add to its stream and can be left out alone, attention or feed-forward.

A branch is a child of a block whose output is added to the stream it read, directly or through a norm of its own. Leaving
it out puts zeros where it was; its norm goes with it. The rows of branches over the blocks of a chain are chains too, named
`model.layers:self_attn`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from prunus.graph.build import Graph
from prunus.graph.chains import Chain
from prunus.graph.record import Call
from prunus.graph.trace import run
from prunus.train.modes import evaluating

ATTENTION = ("scaled_dot_product_attention", "softmax", "_softmax")


class Nothing(nn.Module):
    """Stands where a branch was: zeros in the shape of what it reads, in the form in which it gave its output.

    Args:
        length: of the tuple that the branch returned, 0 for a bare tensor; what follows the first entry is None.
    """

    def __init__(self, length: int = 0) -> None:
        super().__init__()
        self.length = length

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Zeros like the first tensor argument."""
        given = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        zeros = torch.zeros_like(given)
        return zeros if not self.length else (zeros, *[None] * (self.length - 1))


def branches(graph: Graph, known: Iterable[Chain]) -> tuple[Chain, ...]:
    """Rows of branches over the blocks of chains: those that hold attention first, then the others, in their order."""
    found: list[Chain] = []
    for chain in known:
        rows = [branches_of(graph, block) for block in chain.children]
        for name in dict.fromkeys(name for row in rows for name in row):
            children = tuple(f"{block}.{name}" for block in chain.children)
            free = tuple(name in row for row in rows)
            attends = any(row.get(name, False) for row in rows)
            found.append(Chain(f"{chain.path}:{name}", children, free, attends))
    return tuple(sorted(found, key=lambda row: not row.attends))


def branches_of(graph: Graph, block: str) -> dict[str, bool]:
    """Child -> whether it attends, for every child of a block that is a branch."""
    trace = graph.main.trace
    made: dict[int, Call] = {}
    depth = block.count(".") + 1
    for call in trace.calls:
        if call.path.startswith(f"{block}.") and call.path.count(".") == depth and call.outputs:
            made.setdefault(call.outputs[0], call)  # a dropout behind it gives the same tensor
    found: dict[str, bool] = {}
    sums = [n.inputs() for n in trace.nodes if n.op in ("add", "add_") and n.module == block and len(n.inputs()) == 2]
    for stream, branch in (pair for both in sums for pair in (both, both[::-1])):
        call = made.get(branch)
        if call is not None and _reads(call, made, stream) and _same(graph, call):
            name = call.path.removeprefix(f"{block}.")
            found[name] = any(node.op in ATTENTION for node in trace.nodes[call.first : call.last])
    return found


def _reads(call: Call, made: dict[int, Call], stream: int) -> bool:
    """Whether a call reads the stream, or one other child that read it."""
    if not call.inputs:
        return False
    first = call.inputs[0]
    before = made.get(first)
    return first == stream or (before is not None and bool(before.inputs) and before.inputs[0] == stream)


def _same(graph: Graph, call: Call) -> bool:
    values = graph.main.trace.values
    return values[call.inputs[0]].shape == values[call.outputs[0]].shape


def own_norm(graph: Graph, block: str, branch: str) -> str:
    """Path of the child whose output nobody but the branch reads, or ""."""
    trace = graph.main.trace
    calls = {call.path: call for call in trace.calls}
    call = calls[branch]
    before = next((c for c in trace.calls if c.outputs[:1] == call.inputs[:1] and c.path.startswith(f"{block}.")), None)
    if before is None or before.path == branch:
        return ""
    readers = [at for at, node in enumerate(trace.nodes) if call.inputs[0] in node.inputs()]
    return before.path if all(call.first <= at < call.last for at in readers) else ""


def leave_out(model: nn.Module, graph: Graph, branch: str, length: int) -> None:
    """Put `Nothing` in the place of a branch and an identity in that of its norm, in place.

    Args:
        model: of the graph.
        graph: recorded from it.
        branch: qualified name.
        length: as in `tuple_lengths`.
    """
    norm = own_norm(graph, branch.rpartition(".")[0], branch)
    if norm:
        _put(model, norm, nn.Identity())
    _put(model, branch, Nothing(length))


def tuple_lengths(model: nn.Module, names: Iterable[str], example: Any) -> dict[str, int]:
    """Module -> entries of the tuple it returns, 0 for a tensor: found by one forward pass of the example."""
    lengths: dict[str, int] = {}

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            lengths[name] = len(output) if isinstance(output, tuple) else 0

        return hook

    handles = [model.get_submodule(name).register_forward_hook(look(name)) for name in names]
    try:
        with evaluating(model), torch.no_grad():
            run(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return lengths


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module.train(model.training))
