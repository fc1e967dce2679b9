"""Rules of views and copies.

Views need no rule each: the operator is replayed on an empty contiguous tensor, and the strides of the result say
exactly which position of which input axis every output axis walks along.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.graph.axes import Axis, Dim, is_frozen, narrow, product, resolve, strided
from prunus.graph.rules import Step, rule
from prunus.graph.trace import Ref

VIEWS = [
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "permute",
    "transpose",
    "t",
    "numpy_T",
    "mT",
    "adjoint",
    "movedim",
    "moveaxis",
    "swapaxes",
    "swapdims",
    "squeeze",
    "unsqueeze",
    "expand",
    "expand_as",
    "broadcast_to",
    "select",
    "slice",
    "narrow",
    "split",
    "split_with_sizes",
    "chunk",
    "tensor_split",
    "unbind",
    "view_as",
    "reshape_as",
    "unsafe_split",
    "unsafe_chunk",
    "unsafe_split_with_sizes",
    "_reshape_alias",
    "unsafe_view",
    "_unsafe_view",
]
SAME = [
    "clone",
    "contiguous",
    "detach",
    "alias",
    "lift",
    "lift_fresh",
    "to",
    "_to_copy",
    "type_as",
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "native_dropout",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "bernoulli",
    "positive",
    "copy_",
    "fill_",
    "zero_",
    "resolve_conj",
    "resolve_neg",
    "float",
    "double",
    "half",
    "cpu",
    "pin_memory",
    "requires_grad_",
    "normal_",
    "uniform_",
    "conj",
    "_conj",
    "real",
    "view_dtype",
    "zeros_",
]


@rule(*VIEWS)
def view(step: Step) -> None:
    """Replay a view on an empty tensor and read its strides."""
    source = step.id("self") if step.has("self") else step.node.inputs()[0]
    dims = [resolve(dim) for dim in step.dims[source]]
    replayed = _replay(step, source)
    outputs = [_decode(step, dims, part) for part in replayed]
    step.set(*outputs)
    if step.trace.values[source].kind == "parameter" or source in step.origins:
        for value in step.node.outputs:
            if value is not None and len(step.dims[value]) == len(dims):
                step.origins[value] = step.origins.get(source, source)
    if step.node.op in ("split", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk"):
        _tie_equal_parts(step)


def _replay(step: Step, source: int) -> list[Tensor]:
    def empty(item: Any) -> Any:
        if isinstance(item, Ref):
            return torch.empty(step.trace.values[item.value].shape, dtype=torch.int64, device="meta")
        return item

    args = [empty(item) for item in step.node.args]
    kwargs = {key: empty(item) for key, item in step.node.kwargs.items()}
    with torch.no_grad():
        result = step.node.func(*args, **kwargs)
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _decode(step: Step, dims: list[Dim], out: Tensor) -> list[Dim]:
    """Dimensions of a view from its size, stride and offset over a contiguous source."""
    if not live_any(dims):
        repeats = [size > 1 and stride == 0 for size, stride in zip(out.shape, out.stride())]
        return [Axis(size) if repeated else _frozen_like(dims, size) for size, repeated in zip(out.shape, repeats)]
    count = 1
    for dim in dims:
        count *= dim.size
    repeated = any(size > 1 and stride == 0 for size, stride in zip(out.shape, out.stride()))
    if out.numel() == count and out.storage_offset() == 0 and not repeated:
        return _rearrange(step, dims, out)
    return _select(step, dims, out)


def live_any(dims: list[Dim]) -> bool:
    """True if some dimension can still be pruned."""
    return any(not is_frozen(dim) for dim in dims)


def _frozen_like(dims: list[Dim], size: int) -> Dim:
    for dim in dims:
        item = resolve(dim)
        if isinstance(item, Axis) and item.frozen:
            return Axis(size, item.frozen)
    return Axis(size, "fixed by its source") if size > 1 else Axis(size)


def _rearrange(step: Step, dims: list[Dim], out: Tensor) -> list[Dim]:
    made: list[Dim] = [Axis(size) for size in out.shape]
    order = sorted((axis for axis in range(out.dim()) if out.shape[axis] > 1), key=lambda axis: -out.stride(axis))
    step.tie(product(dims), product([made[axis] for axis in order]))
    return [resolve(dim) for dim in made]


def _select(step: Step, dims: list[Dim], out: Tensor) -> list[Dim]:
    strides = _contiguous([dim.size for dim in dims])
    if out.numel() == 0:
        return [Axis(size) for size in out.shape]
    offset = int(out.storage_offset())
    starts = [offset // stride % dim.size for dim, stride in zip(dims, strides)]
    used: set[int] = set()
    made: list[Dim] = []
    for size, stride in zip(out.shape, out.stride()):
        if size <= 1 or stride == 0:
            made.append(Axis(size))
            continue
        axis = max(
            (axis for axis, dim in enumerate(dims) if dim.size > 1 and strides[axis] <= stride),
            key=lambda axis: strides[axis],
            default=-1,
        )
        step_size = stride // strides[axis]
        if axis in used or stride % strides[axis] or starts[axis] + (size - 1) * step_size >= dims[axis].size:
            step.stop(dims, "not a rectangular part")
            return [step.fixed(length, "not a rectangular part") for length in out.shape]
        used.add(axis)
        made.append(strided(dims[axis], starts[axis], size, step_size, f"{step.why}: cut inside a unit"))
    for axis, dim in enumerate(dims):
        if axis not in used and dim.size > 1:
            narrow(dim, starts[axis], starts[axis] + 1, f"{step.why}: one position is taken out")
    return made


def _contiguous(shape: list[int]) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return strides


def _tie_equal_parts(step: Step) -> None:
    """One number gives the size of all parts, so equal parts must stay equal."""
    parts = [step.dims[value] for value in step.node.outputs if value is not None]
    for other in parts[1:]:
        for a, b in zip(parts[0], other):
            if a.size == b.size:
                step.tie(a, b)


@rule(*SAME)
def same(step: Step) -> None:
    """The output is laid out as the first operand; a second tensor operand broadcasts into it."""
    first, *others = step.node.inputs()
    dims = step.dims[first]
    for other in others if step.node.op == "copy_" else ():
        for a, b in zip(reversed(dims), reversed(step.dims[other])):
            if a.size == b.size:
                step.tie(a, b)
    step.set(dims)
