"""Bind a Group to a model and its signals: the view that criteria and compensators see.

Every member is `[units, per_unit, other]`; the input side of a convolution counts its taps in `per_unit`, channel by
channel as in an unfolded input, so `input_*` `[units, per_unit]` and `hessian` line up with `weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.prunable import Group, Slot
from prunus.graph.axes import Axis, Dim, index_of, mask_of, resolve
from prunus.graph.build import Graph
from prunus.graph.record import named_tensors


class Signals(Protocol):
    """What is asked of ModuleSignals: records by module name."""

    def __getitem__(self, name: str, /) -> Any: ...
    def __contains__(self, name: object, /) -> bool: ...


@dataclass(frozen=True, eq=False)
class Member:
    """One parameter seen from the units of a group.

    Attributes:
        name, parameter: qualified parameter name.
        module: its module.
        weight, grad, grad_square: `[units, per_unit, other]`.
        bias: `[units]` of a writer whose units are single outputs, else None.
        input_mean, input_var, input_norm: `[units, per_unit]` of a reader, or None.
        input_off, input_rank: `[units, inputs]` of a reader, without taps, or None.
        input_pooled: `[units, inputs, rows]` of a reader, or None.
        hessian: `[units * per_unit, units * per_unit]` of a reader, unit by unit, or None.
        outputs: what was measured at a writer's outputs, by signal: `output_*` `[units, per_unit]`.
    """

    name: str
    module: str
    weight: Tensor
    grad: Tensor | None = None
    bias: Tensor | None = None
    input_mean: Tensor | None = None
    input_var: Tensor | None = None
    input_norm: Tensor | None = None
    hessian: Tensor | None = None
    grad_square: Tensor | None = None
    input_off: Tensor | None = None
    input_rank: Tensor | None = None
    input_pooled: Tensor | None = None
    outputs: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def parameter(self) -> str:
        """Qualified parameter name."""
        return self.name


@dataclass(frozen=True, eq=False)
class BoundGroup:
    """A group with its members, as criteria over channels see it."""

    name: str
    unit: str
    size: int
    tag: str
    cost: float
    writers: tuple[Member, ...]
    readers: tuple[Member, ...]
    vectors: tuple[Member, ...]


def bind(group: Group, model: nn.Module, signals: Signals | None = None, *, graph: Graph | None = None) -> BoundGroup:
    """The members of a group in a model.

    Args:
        group: of a ModelPrunable, unit channels.
        model: the dense model.
        signals: ModuleSignals, for grad, input_* and hessian; without, grad is taken from the parameters.
        graph: needed for readers that are grouped convolutions; found on the group if it came from `assemble`.
    """
    tensors = named_tensors(model)
    found: dict[str, list[Member]] = {"writer": [], "reader": [], "vector": []}
    for slot in group.slots:
        found[slot.role].append(_member(slot, tensors, model, signals))
    kinds = (tuple(found[role]) for role in ("writer", "reader", "vector"))
    writers, readers, vectors = kinds
    return BoundGroup(group.name, group.unit, group.size, group.tag, group.cost, writers, readers, vectors)


def _member(slot: Slot, tensors: Mapping[str, Tensor], model: nn.Module, signals: Signals | None) -> Member:
    module, _, own = slot.parameter.rpartition(".")
    tensor = tensors[slot.parameter].detach()
    owner = model.get_submodule(module)
    groups = int(getattr(owner, "groups", 1)) if isinstance(owner, nn.modules.conv._ConvNd) else 1  # pyright: ignore[reportPrivateUsage]
    shared = groups if slot.role == "reader" and not getattr(owner, "transposed", False) else 1
    grads = [_grad(slot, tensors, signals, name) for name in ("grad", "grad_square")]
    grad, square = (None if value is None else _arranged(value, slot, shared) for value in grads)
    fields: dict[str, Any] = {}
    if own == "weight" and signals is not None and module in signals:
        if slot.role == "reader":
            channels = tensor.shape[slot.axis] * shared
            fields = _inputs(signals[module], _places(slot, shared, tensor.shape[slot.axis]), channels)
        elif slot.role == "writer":
            fields["outputs"] = _outputs(signals[module], slot, tensor.shape[slot.axis])
    bias = tensors.get(f"{module}.bias") if slot.role == "writer" and slot.index.shape[1] == 1 else None
    return Member(
        slot.parameter,
        module,
        _arranged(tensor, slot, shared),
        grad,
        None if bias is None else bias.detach()[_long(slot.index[:, 0])],
        grad_square=square,
        **fields,
    )


def _grad(slot: Slot, tensors: Mapping[str, Tensor], signals: Signals | None, name: str) -> Tensor | None:
    module, _, own = slot.parameter.rpartition(".")
    if signals is None:
        return tensors[slot.parameter].grad if name == "grad" else None
    key = name if own == "weight" else f"{name}.{own}"
    return getattr(signals[module], key, None) if module in signals else None


def _outputs(stats: Any, slot: Slot, width: int) -> dict[str, Tensor]:
    """`output_*` `[outputs]` by unit; a grouped transposed convolution adds up the outputs that share a position."""
    found: dict[str, Tensor] = {}
    for name in getattr(stats, "fields", ()):
        if name.startswith("output_"):
            found[name] = getattr(stats, name).reshape(-1, width).sum(0)[_long(slot.index)]
    return found


def _long(index: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(index)).long()


def _arranged(tensor: Tensor, slot: Slot, groups: int) -> Tensor:
    """`[units, per_unit, other]`; for a reader the taps join per_unit and `other` are the outputs."""
    units, width = slot.index.shape
    moved = tensor.movedim(slot.axis, 0)[_long(slot.index).to(tensor.device)]
    if slot.role != "reader" or tensor.dim() < 3:
        return moved.reshape(units, width, -1)
    outputs, taps = moved.shape[2], moved[0, 0, 0].numel()
    if groups == 1:
        return moved.reshape(units, width, outputs, taps).transpose(2, 3).reshape(units, width * taps, outputs)
    blocks = moved.reshape(units, width, groups, outputs // groups, taps)
    return blocks.permute(0, 2, 1, 4, 3).reshape(units, groups * width * taps, outputs // groups)


def _places(slot: Slot, groups: int, width: int) -> np.ndarray:
    """Input channels of the module that each unit owns `[units, n]`: all blocks of a grouped convolution."""
    if groups == 1:
        return slot.index
    blocks = np.arange(groups)[None, :, None] * width + slot.index[:, None, :]
    return blocks.reshape(slot.index.shape[0], -1)


def _inputs(stats: Any, places: np.ndarray, channels: int) -> dict[str, Tensor | None]:
    found: dict[str, Tensor | None] = {}
    index = _long(places)
    for name in ("input_mean", "input_var", "input_norm", "input_off", "input_rank", "input_pooled"):
        value = getattr(stats, name, None)
        if value is not None:
            value = value.reshape(value.shape[0], -1)[index]  # [units, n, taps or rows]
            found[name] = value if name == "input_pooled" else value.reshape(len(places), -1)
    hessian = getattr(stats, "hessian", None)
    if hessian is not None:
        found["hessian"] = _hessian(hessian, places, channels)
    return found


def _hessian(hessian: Tensor, places: np.ndarray, channels: int) -> Tensor:
    """Rows and columns of the units' inputs; blocks of a grouped convolution do not see each other."""
    stack = hessian if hessian.dim() == 3 else hessian.unsqueeze(0)
    groups, width, _ = stack.shape
    taps = groups * width // channels
    flat = _long((places[:, :, None] * taps + np.arange(taps)).reshape(-1))
    if groups == 1:
        whole = torch.arange(width)
        return stack[0] if torch.equal(flat, whole) else stack[0][flat][:, flat]
    block, local = flat // width, flat % width
    values = stack[block[:, None], local[:, None], local[None, :]]
    return torch.where(block[:, None] == block[None, :], values, torch.zeros_like(values))


@dataclass(frozen=True, eq=False)
class WholeReader:
    """A matrix seen over its whole input, as compensators see it (`compensate.reader.Reader`)."""

    module: str
    parameter: str
    value: Tensor
    axis: int
    groups: int = 1
    input_mean: Tensor | None = None
    input_var: Tensor | None = None
    input_norm: Tensor | None = None
    hessian: Tensor | None = None
    filters: Tensor | None = None
    shifts: Tensor | None = None
    places: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """`[inputs, taps, outputs]`."""
        turned = self.value.movedim(self.axis, 0)
        return turned.reshape(turned.shape[0], turned.shape[1], -1).swapaxes(1, 2)

    def dense(self, weight: Tensor) -> Tensor:
        """`weight [inputs, taps, outputs]` in the shape of the parameter."""
        turned = self.value.movedim(self.axis, 0)
        return weight.swapaxes(1, 2).reshape(turned.shape).movedim(0, self.axis).contiguous()


def readers_of(
    graph: Graph, model: nn.Module, keep: Mapping[str, np.ndarray], signals: Signals | None = None
) -> Iterator[tuple[WholeReader, np.ndarray]]:
    """Every matrix that reads something dropped, once, with the dropped positions of its whole input.

    Tied matrices are left out: changing what they read would change what they write. Grouped convolutions too: their
    outputs see different inputs.
    """
    masks = graph.masks(keep)
    tensors = named_tensors(model)
    shared = [canonical for name, canonical in graph.parameters.items() if name != canonical]
    for name, dim in graph.reads.items():
        axis = reading_axis(graph, name)
        module = name.rpartition(".")[0]
        owner = model.get_submodule(module)
        if name not in graph.parameters or graph.parameters[name] in shared or axis is None:
            continue
        dropped = np.flatnonzero(~mask_of(dim, masks))
        if not dropped.size or getattr(owner, "groups", 1) != 1:
            continue
        places = np.arange(graph.shapes[name][axis])[:, None]
        stats = signals[module] if signals is not None and module in signals else None
        fields = {} if stats is None else _inputs(stats, places, len(places))
        fields = {key: value for key, value in fields.items() if key in WholeReader.__dataclass_fields__}
        yield WholeReader(module, name, tensors[name].detach(), axis, 1, **fields), dropped


def reading_axis(graph: Graph, name: str) -> int | None:
    """The axis along which a matrix reads, or None."""
    canonical = graph.parameters.get(name, name)
    for axis in range(len(graph.shapes.get(name, ()))):
        if (graph.roles.get((name, axis)) or graph.roles.get((canonical, axis))) == "reader":
            return axis
    return None


def writing_axis(graph: Graph, name: str) -> int | None:
    """The axis along which a matrix writes, or None."""
    canonical = graph.parameters.get(name, name)
    for axis in range(len(graph.shapes.get(name, ()))):
        if (graph.roles.get((name, axis)) or graph.roles.get((canonical, axis))) == "writer":
            return axis
    return None


def unit_positions(graph: Graph, dim: Dim, group: str) -> np.ndarray:
    """Positions of a dimension that each unit of a group owns: int64 `[size, per_unit]`."""
    leaf: Axis = graph.axes[group]
    return index_of(resolve(dim), leaf)
