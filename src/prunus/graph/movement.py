"""Rules of the operators that only move data.

Views need no rule each: the operator is replayed on an empty contiguous tensor, and the strides of the result say
exactly which position of which input axis every output axis walks along.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.graph.axes import Axis, Cat, Dim, concat, is_frozen, narrow, product, resolve, split, strided
from prunus.graph.record import Ref
from prunus.graph.rules import Step, refuse, rule

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
    offset = out.storage_offset()
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


@rule(
    "zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "scalar_tensor", "empty_strided"
)
def constant(step: Step) -> None:
    """Equal values at every position: of whatever size the other operand has."""
    step.set([Axis(size) for size in step.shape()])


@rule("cat", "concat", "concatenate", "hstack", "vstack")
def cat(step: Step) -> None:
    """Concatenation along one axis; the other axes are tied."""
    if step.node.op in ("hstack", "vstack"):
        return
    parts = [step.dims[value] for value in step.list("tensors")]
    parts = [dims for dims in parts if not (len(dims) == 1 and dims[0].size == 0)]
    axis = step.get("dim", 0) % len(parts[0])
    for dims in parts[1:]:
        for other in range(len(dims)):
            if other != axis:
                step.tie(parts[0][other], dims[other])
    step.set([concat([dims[axis] for dims in parts]) if a == axis else dim for a, dim in enumerate(parts[0])])


@rule("stack")
def stack(step: Step) -> None:
    """A new axis over operands that are tied."""
    parts = [step.dims[value] for value in step.list("tensors")]
    for dims in parts[1:]:
        for a, b in zip(parts[0], dims):
            step.tie(a, b)
    axis = step.get("dim", 0) % (len(parts[0]) + 1)
    step.set([*parts[0][:axis], step.fixed(len(parts), "stacked operands"), *parts[0][axis:]])


@rule("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def pad(step: Step) -> None:
    """Padding adds frozen positions on both sides of an axis: the amounts are numbers in the code."""
    source = step.node.inputs()[0]
    amounts = list(step.get("pad") or step.get("padding"))
    dims = list(step.dims[source])
    for pair in range(len(amounts) // 2):
        axis = len(dims) - 1 - pair
        before, after = amounts[2 * pair], amounts[2 * pair + 1]
        dim = dims[axis]
        cut_start, cut_stop = max(-before, 0), dim.size - max(-after, 0)
        dim = narrow(dim, cut_start, cut_stop, step.why)
        sides = [step.fixed(max(side, 0), "padding of a fixed size") for side in (before, after)]
        dims[axis] = concat([side for side in (sides[0], dim, sides[1]) if side.size])
    step.set(dims)


@rule("repeat")
def repeat(step: Step) -> None:
    """Whole copies of an axis one after the other."""
    dims = step.of("self")
    times = list(step.get("repeats"))
    dims = [Axis(1)] * (len(times) - len(dims)) + list(dims)
    step.set([product((Axis(count), dim)) if count > 1 else dim for count, dim in zip(times, dims)])


@rule("repeat_interleave")
def repeat_interleave(step: Step) -> None:
    """Each position several times in a row, as grouped-query attention does with its heads."""
    count, axis = step.get("repeats"), step.get("dim")
    if not isinstance(count, int) or axis is None:
        return
    dims = list(step.of("self"))
    axis %= len(dims)
    dims[axis] = product((dims[axis], Axis(count)))
    step.set(dims)


@rule("index", "_unsafe_index")
def index(step: Step) -> None:
    """Advanced indexing: the indexed axes are frozen, the others pass."""
    dims = step.of("self")
    indexed: list[int] = []
    axis = 0
    for item in step.given["indices"]:
        if isinstance(item, Ref):
            value = step.trace.values[item.value]
            width = len(value.shape) if value.dtype in (torch.bool, torch.uint8) else 1
            indexed.extend(range(axis, axis + width))
            axis += width
        else:
            axis += 1
    step.stop([dims[a] for a in indexed], "indexed by a tensor")
    shape = step.shape()
    width = len(shape) - (len(dims) - len(indexed))
    joined = indexed == list(range(indexed[0], indexed[-1] + 1))
    place = indexed[0] if joined else 0
    rest = [dim for a, dim in enumerate(dims) if a not in indexed]
    made = [step.fixed(size, "result of indexing") for size in shape[place : place + width]]
    step.set([*rest[:place], *made, *rest[place:]])


@rule(
    "index_select",
    "roll",
    "flip",
    "cumsum",
    "cumprod",
    "sort",
    "argsort",
    "topk",
    "softmax",
    "log_softmax",
    "diff",
    "_softmax",
    "_log_softmax",
    "logcumsumexp",
    "cummax",
    "cummin",
    "kthvalue",
    "glu_ordered",
    "softmin",
)
def along(step: Step) -> None:
    """Operators whose result depends on all positions of an axis, in order or jointly: that axis is frozen."""
    source = step.node.inputs()[0]
    dims = list(step.dims[source])
    chosen = step.get("dim", step.get("dims", step.get("axis", -1)))
    axes = [chosen] if isinstance(chosen, int) else list(chosen) or list(range(len(dims)))
    step.stop([dims[axis] for axis in axes if dims], "needs all positions of the axis")
    shape = step.shape()
    for axis in axes:
        if dims and len(shape) == len(dims):
            dims[axis % len(dims)] = step.fixed(shape[axis], "needs all positions of the axis")
    step.set(dims)


@rule(
    "gather",
    "scatter",
    "scatter_add",
    "index_put",
    "index_put_",
    "index_add",
    "index_copy",
    "masked_scatter",
    "scatter_reduce",
    "index_fill",
    "take_along_dim",
)
def scatter(step: Step) -> None:
    """Reading and writing at computed places: everything involved is frozen."""
    refuse(step, "places computed at run time")


@rule("tril", "triu", "rot90")
def triangle(step: Step) -> None:
    """Position-dependent on the last two axes."""
    dims = step.dims[step.node.inputs()[0]]
    step.stop(dims[-2:], "depends on the position")
    step.set(dims)


@rule("pixel_shuffle")
def pixel_shuffle(step: Step) -> None:
    """Channels c, r, r become c and a finer grid."""
    dims, factor = list(step.of("self")), step.get("upscale_factor")
    channels, _ = split(dims[-3], factor * factor, step.why)
    step.stop([split(dims[-3], factor * factor, step.why)[1]], "sub-pixel positions")
    step.set([*dims[:-3], channels, *[step.fixed(size, "spatial axis") for size in step.shape()[-2:]]])


@rule("pixel_unshuffle")
def pixel_unshuffle(step: Step) -> None:
    """The grid inside each channel becomes channels."""
    dims, factor = list(step.of("self")), step.get("downscale_factor")
    step.stop(dims[-2:], "spatial axis")
    cells = step.fixed(factor * factor, "sub-pixel positions")
    step.set([*dims[:-3], product((dims[-3], cells)), *[step.fixed(n, "spatial axis") for n in step.shape()[-2:]]])


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(step: Step) -> None:
    """Channels seen as groups x places are transposed."""
    dims = list(step.of("self"))
    outer, inner = split(dims[1], dims[1].size // step.get("groups"), step.why)
    step.note.literals["groups"] = outer
    step.set([dims[0], product((inner, outer)), *dims[2:]])


@rule("im2col")
def im2col(step: Step) -> None:
    """Patches become channels: channel x taps."""
    dims = step.of("self")
    step.stop(dims[-2:], "spatial axis")
    shape = step.shape()
    channels = product((dims[-3], step.fixed(shape[-2] // dims[-3].size, "taps of a patch")))
    step.set([*dims[:-3], channels, step.fixed(shape[-1], "patches")])


@rule("unfold")
def unfold(step: Step) -> None:
    """Sliding windows along one axis."""
    dims = list(step.of("self"))
    axis = step.get("dimension", 0) % len(dims)
    step.stop([dims[axis]], "sliding windows")
    shape = step.shape()
    dims[axis] = step.fixed(shape[axis], "sliding windows")
    step.set([*dims, step.fixed(shape[-1], "sliding windows")])


def is_cat(dim: Dim) -> bool:
    """True for a dimension made of parts."""
    return isinstance(resolve(dim), Cat)


@rule("arange", "linspace", "logspace", "eye", "rand", "randn", "randint", "randperm", "tril_indices", "triu_indices")
def counted(step: Step) -> None:
    """Tensors whose values depend on the position: they cannot be made shorter."""
    step.set([step.fixed(size, "values depend on the position") for size in step.shape()])
