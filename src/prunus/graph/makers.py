"""Who makes what a matrix reads: the filters behind each input, with the norms that follow them folded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.prunable import Slot
from prunus.graph.axes import leaves
from prunus.graph.build import Graph
from prunus.graph.members import unit_positions
from prunus.graph.record import named_tensors
from prunus.graph.trace import Ref

NORM, LINEAR = "batch_norm", ("linear", "addmm")


@dataclass(frozen=True, eq=False)
class Makers:
    """The makers of a matrix's inputs.

    Attributes:
        filters: float64 `[inputs, d]`: weights of all makers of an input side by side, zeros where nobody makes it.
        shifts: float64 `[inputs]`: what the makers add.
        places: int64 `[inputs]`: inputs of one place may stand in for one another; -1 for inputs nobody makes.
    """

    filters: Tensor
    shifts: Tensor
    places: Tensor


def norms_behind(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Weight of a convolution or linear layer -> (module path, names of mean, variance, scale, shift) of its batch norm."""
    trace = graph.main.trace
    made: dict[int, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for node in trace.nodes:
        if node.op.startswith("conv") or node.op in LINEAR:
            weights = [trace.values[v].name for v in node.inputs() if len(trace.values[v].shape) > 1]
            named = [name for name in weights if name in graph.parameters]
            if named and node.outputs and node.outputs[0] is not None:
                made[node.outputs[0]] = named[-1]
        elif node.op == NORM and isinstance(node.args[0], Ref) and node.args[0].value in made:
            parts = [trace.values[a.value].name if isinstance(a, Ref) else "" for a in node.args[1:5]]
            scale, shift, mean, var = parts
            if mean and var:
                found[made[node.args[0].value]] = (node.module, mean, var, scale, shift)
    return found


def makers_of(graph: Graph, model: nn.Module, reader: str, tensors: Mapping[str, Tensor] | None = None) -> Makers:
    """The makers of every input of a matrix that the graph's groups know of.

    Args:
        graph: recorded from the model.
        model: where the makers' weights are, unless `tensors` has them by name.
        reader: qualified name of the matrix.
        tensors: other values for some of the model's tensors.
    """
    dim = graph.reads[reader]
    tensors, norms = {**named_tensors(model), **(tensors or {})}, norms_behind(graph)
    own = {graph.axes[group.name]: group for group in graph.groups}
    groups = [own[leaf] for leaf in dict.fromkeys(leaves(dim)) if leaf in own]
    parts: list[tuple[np.ndarray, Tensor, Tensor]] = []
    for group in groups:
        positions = unit_positions(graph, dim, group.name)
        writers = [slot for slot in group.slots if slot.role == "writer" and slot.parameter.endswith(".weight")]
        sides = [folded(slot, tensors, norms, model) for slot in writers]
        if sides:
            filters = torch.cat([side for side, _ in sides], dim=2)
            parts.append((positions, filters, torch.stack([shift for _, shift in sides]).sum(0)))
    return _placed(parts, dim.size)


def _placed(parts: list[tuple[np.ndarray, Tensor, Tensor]], inputs: int) -> Makers:
    """Filters `[units, per_unit, d]` of each group at their positions in the input; groups do not mix."""
    width = sum(filters.shape[2] for _, filters, _ in parts)
    made = Makers(
        torch.zeros(inputs, width, dtype=torch.float64), torch.zeros(inputs, dtype=torch.float64),
        torch.full((inputs,), -1),
    )  # fmt: skip
    start = place = 0
    for positions, filters, shifts in parts:
        units, owned = positions.shape
        index = torch.from_numpy(np.ascontiguousarray(positions)).long()
        copies = max(owned // filters.shape[1], 1)  # a flattened map repeats its channel at every position
        which = torch.arange(owned) // copies % filters.shape[1]
        made.filters[index, start : start + filters.shape[2]] = filters[:, which]
        made.shifts[index] = shifts[:, which]
        made.places[index] = (place + torch.arange(owned)).expand(units, owned)
        start, place = start + filters.shape[2], place + owned
    return made


def folded(
    slot: Slot, tensors: Mapping[str, Tensor], norms: Mapping[str, tuple[str, ...]], model: nn.Module
) -> tuple[Tensor, Tensor]:
    """Filters `[units, per_unit, d]` and shifts `[units, per_unit]` of a writer, its batch norm and bias folded in."""
    index = torch.from_numpy(np.ascontiguousarray(slot.index)).long()
    weight = tensors[slot.parameter].detach().double().movedim(slot.axis, 0)[index]
    filters = weight.reshape(*index.shape, -1)
    bias = tensors.get(f"{slot.parameter.removesuffix('.weight')}.bias")
    shift = torch.zeros(index.shape, dtype=torch.float64) if bias is None else bias.detach().double()[index]
    if slot.parameter not in norms:
        return filters, shift
    module, mean, var, scale, lift = norms[slot.parameter]
    eps = float(getattr(model.get_submodule(module), "eps", 1e-5))
    factor = torch.rsqrt(tensors[var].double() + eps)
    factor = (factor if not scale else factor * tensors[scale].detach().double())[index]
    shift = (shift - tensors[mean].double()[index]) * factor
    shift = shift if not lift else shift + tensors[lift].detach().double()[index]
    return filters * factor.unsqueeze(2), shift
