"""Rules of the operators that move data and are no views: concatenation, padding, indexing, repetition."""

from __future__ import annotations

import torch

from prunus.graph.axes import Axis, Dim, concat, narrow, product, split
from prunus.graph.rules import Step, refuse, rule
from prunus.graph.trace import Ref


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
    before, after, width = _indexed(step)
    place = len(before)
    made = [step.fixed(size, "result of indexing") for size in step.shape()[place : place + width]]
    step.set([*before, *made, *after])


@rule("index_put", "index_put_")
def index_put(step: Step) -> None:
    """Writing at places: the indexed axes are frozen, the others are those of what is written."""
    before, after, width = _indexed(step)
    written = step.of("values")
    places: list[Dim | None] = [*before, *[None] * width, *after]
    for dim, target in zip(reversed(written), reversed(places)):
        if target is None:
            step.stop([dim], "written at places computed at run time")
        elif dim.size > 1 or target.size == 1:
            step.tie(dim, target)
    step.set(step.of("self"))


def _indexed(step: Step) -> tuple[list[Dim], list[Dim], int]:
    """(dimensions before the places, those behind, number of axes that the places make); indexed dimensions are frozen."""
    dims = step.of("self")
    indexed: list[int] = []
    widths: list[int] = []
    axis = 0
    for item in step.given["indices"]:
        if isinstance(item, Ref):
            value = step.trace.values[item.value]
            mask = value.dtype in (torch.bool, torch.uint8)
            taken = len(value.shape) if mask else 1
            indexed.extend(range(axis, axis + taken))
            widths.append(1 if mask else len(value.shape))
            axis += taken
        else:
            axis += 1
    step.stop([dims[a] for a in indexed], "indexed by a tensor")
    joined = indexed == list(range(indexed[0], indexed[-1] + 1))
    rest = [dim for a, dim in enumerate(dims) if a not in indexed]
    place = indexed[0] if joined else 0
    return rest[:place], rest[place:], max(widths)


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
    "_fft_c2c",
    "_fft_r2c",
    "_fft_c2r",
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
