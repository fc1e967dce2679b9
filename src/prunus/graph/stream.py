"""The residual stream of a model: what adds to it, the norms that read it, and what reads these norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.core.prunable import Group
from prunus.graph.build import Graph

Place = tuple[str, int]  # parameter, axis
MOVES = ("view", "reshape", "_unsafe_view", "slice", "select", "index", "clone", "contiguous", "alias", "detach",
         "_to_copy", "to", "transpose", "permute", "squeeze", "unsqueeze", "flatten")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm of the stream.

    Attributes:
        path: its module.
        readers: matrices that read what it gives, and the axis along which they do.
    """

    path: str
    readers: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """A residual stream.

    Attributes:
        group: name of its group.
        size: its width.
        norms: in the order of the pass.
        adds: matrices, biases and embeddings whose outputs make it up, and their axis along it.
        tied: parameters that share their tensor with another one, those that come first left out.
    """

    group: str
    size: int
    norms: tuple[Norm, ...]
    adds: tuple[Place, ...]
    tied: tuple[str, ...]


def stream_of(graph: Graph) -> Stream:
    """The stream with the most norms.

    Raises:
        BadInput: there is none, it is not whole, or something reads it past its norms.
    """
    groups = {group.name: (group, _norms(group)) for group in graph.groups}
    group, norms = max(groups.values(), key=lambda pair: len(pair[1]), default=(None, ()))
    if group is None or not norms:
        raise BadInput("this model has no residual stream with norms whose width can be cut: see `prunus check`")
    readers: dict[str, list[Place]] = {path: [] for path in norms}
    adds: list[Place] = []
    for slot in group.slots:
        if slot.index.shape[1] != 1 or not np.array_equal(slot.index[:, 0], np.arange(group.size)):
            raise BadInput(f"{slot.parameter} holds the stream in pieces or in another order")
        owner = slot.parameter.rpartition(".")[0]
        if slot.role == "reader":
            readers[_norm_before(graph, owner, norms)].append((slot.parameter, slot.axis))
        elif owner not in norms:
            adds.append((slot.parameter, slot.axis))
    first = {call.path: call.first for call in reversed(graph.main.trace.calls)}
    ordered = sorted(norms, key=lambda path: first[path])
    own = {slot.parameter for slot in group.slots}
    tied = tuple(name for name in sorted(own) if graph.parameters.get(name, name) != name)
    return Stream(
        group.name, group.size, tuple(Norm(path, tuple(readers[path])) for path in ordered), tuple(adds), tied
    )  # fmt: skip


def _norms(group: Group) -> tuple[str, ...]:
    """Modules that have a vector along the group and no matrix."""
    matrices = {slot.parameter.rpartition(".")[0] for slot in group.slots if slot.role != "vector"}
    vectors = [slot.parameter.rpartition(".") for slot in group.slots if slot.role == "vector"]
    return tuple(dict.fromkeys(path for path, _, own in vectors if own == "weight" and path not in matrices))


def _norm_before(graph: Graph, reader: str, norms: tuple[str, ...]) -> str:
    """The norm whose output a module reads, moved or sliced."""
    trace = graph.main.trace
    gives = {call.outputs[0]: call.path for call in trace.calls if call.path in norms and call.outputs}
    value = next((call.inputs[0] for call in trace.calls if call.path == reader and call.inputs), None)
    while value is not None and value not in gives:
        node = next((node for node in trace.nodes if value in node.outputs), None)
        value = node.inputs()[0] if node is not None and node.op in MOVES else None
    if value is None:
        raise BadInput(f"{reader} reads the residual stream past its norms, so the stream can't be rotated")
    return gives[value]


@dataclass(frozen=True, slots=True)
class Affine:
    """What a norm does after it divided: y = gain * x + shift.

    Attributes:
        gain, shift: float64 `[d]`.
        offset: gain = weight + offset (1 where a norm multiplies by 1 + weight, else 0).
        centres: it subtracts the mean first, as layer norms do.
    """

    gain: Tensor
    shift: Tensor
    offset: float
    centres: bool


def affine_of(module: nn.Module, path: str) -> Affine:
    """Found by calling the norm on vectors whose mean is 0 and whose mean square is known.

    Raises:
        BadInput: it is no such norm.
    """
    weight = module.get_parameter("weight").detach()
    probe = _even(len(weight)).to(weight)
    with torch.no_grad():
        up, down, lifted = (module(100 * x).double().cpu() for x in (probe, -probe, probe + 1))
    signs, gain, bias = probe.double().cpu(), weight.double().cpu(), getattr(module, "bias", None)
    shift = torch.zeros_like(gain) if bias is None else bias.detach().double().cpu()
    found = (up - down) / 2 / signs
    offset = float((found - gain).mean().round())
    slack = 0.02 * float(found.abs().max()) + 1e-12

    def alike(one: Tensor, other: Tensor) -> bool:
        return torch.allclose(one, other, rtol=0.02, atol=slack)

    if not (alike(found, gain + offset) and alike((up + down) / 2, shift)):
        raise BadInput(
            f"{path} ({type(module).__name__}) is no norm over its last axis with a gain: it can't be folded"
        )
    return Affine(gain + offset, shift, offset, alike(lifted, up))


def _even(size: int) -> Tensor:
    """`[size]`, float64: no entry 0, mean 0, mean square 1."""
    values = torch.ones(size, dtype=torch.float64)
    values[1::2] = -1
    if size % 2:
        values[-3:] = torch.tensor([1.0, 1.0, -2.0], dtype=torch.float64) / 2**0.5
    return values


def last_writer(graph: Graph, block: str) -> str:
    """The module whose output a block adds to the stream last, as it is.

    Raises:
        BadInput: something stands between the block's last matrix and the sum.
    """
    trace = graph.main.trace
    call = next((call for call in trace.calls if call.path == block and call.outputs), None)
    value = call.outputs[0] if call is not None else None
    while value is not None:
        node = next((node for node in trace.nodes if value in node.outputs), None)
        if node is not None and node.op in ("add", "add_"):
            made = {inner.outputs[0]: inner.path for inner in reversed(trace.calls) if inner.outputs}
            found = [made.get(given, "") for given in node.inputs()]
            inside = [path for path in found if path.startswith(f"{block}.")]
            matrices = [path for path in inside if len(graph.shapes.get(f"{path}.weight", ())) == 2]
            if len(matrices) == 1:
                return matrices[0]
            break
        value = node.inputs()[0] if node is not None and node.op in MOVES else None
    raise BadInput(f"{block} does not add the output of a matrix to its stream last, so no map can be folded into one")
