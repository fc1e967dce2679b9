"""Rules of the operators that compute: elementwise, contractions, convolutions, attention, norms, pooling."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from prunus.graph.axes import Axis, Dim, mark, product, resolve, split
from prunus.graph.rules import Step, rule

POINTWISE = [
    "add",
    "sub",
    "rsub",
    "mul",
    "div",
    "where",
    "max",
    "min",
    "maximum",
    "minimum",
    "relu",
    "relu6",
    "gelu",
    "silu",
    "mish",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "elu",
    "selu",
    "celu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "softplus",
    "log_sigmoid",
    "threshold",
    "rrelu",
    "clamp",
    "clip",
    "addcmul",
    "addcdiv",
    "lerp",
    "masked_fill",
    "logical_and",
    "logical_or",
    "logical_not",
    "__and__",
    "__or__",
    "pow",
    "sqrt",
    "rsqrt",
    "exp",
    "log",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "isnan",
    "isinf",
    "nan_to_num",
    "floor_divide",
    "true_divide",
    "divide",
    "multiply",
    "subtract",
    "remainder",
    "fmod",
    "abs",
    "neg",
    "square",
    "__xor__",
    "bitwise_and",
    "bitwise_or",
    "bitwise_not",
    "log_sigmoid_forward",
    "erf",
    "round",
    "floor",
    "ceil",
    "trunc",
    "sign",
    "cos",
    "sin",
    "atan2",
    "prelu_pointwise",
    "fake_quantize",
]


@rule(*POINTWISE)
def add(step: Step) -> None:
    """Elementwise with broadcasting: axes of equal size are tied, axes of size 1 are not."""
    if step.node.op in ("max", "min") and not step.has("other"):
        reduce(step)
        return
    shape = step.shape()
    made: list[Dim] = [Axis(1) for _ in shape]
    for value in step.node.inputs():
        dims = step.dims[value]
        for back in range(1, min(len(dims), len(shape)) + 1):
            dim = dims[-back]
            if dim.size != shape[-back] or dim.size == 1:
                continue
            if made[-back].size > 1:
                step.tie(made[-back], dim)
            else:
                made[-back] = dim
    step.set(made)


@rule("prelu")
def prelu(step: Step) -> None:
    """A slope per channel."""
    dims, slopes = step.of("self"), step.of("weight")
    if slopes and slopes[0].size > 1:
        step.tie(dims[1], slopes[0])
        step.role("weight", "vector")
    step.set(dims)


@rule("glu")
def glu(step: Step) -> None:
    """First half gated by the second."""
    dims = list(step.of("self"))
    axis = step.get("dim", -1) % len(dims)
    outer, inner = split(dims[axis], dims[axis].size // 2, step.why)
    step.stop([outer], "two halves")
    dims[axis] = inner
    step.set(dims)


@rule(
    "sum",
    "mean",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "norm",
    "amax",
    "amin",
    "linalg_vector_norm",
    "all",
    "any",
    "count_nonzero",
    "frobenius_norm",
)
def reduce(step: Step) -> None:
    """Reductions: over a pruned axis they take the kept positions only."""
    source = step.node.inputs()[0]
    dims = step.dims[source]
    chosen = step.get("dim")
    axes = list(range(len(dims))) if chosen is None else [chosen] if isinstance(chosen, int) else list(chosen)
    gone = {axis % len(dims) for axis in axes} if axes and dims else set(range(len(dims)))
    step.note.reduced.append((source, tuple(sorted(gone))))
    if step.get("keepdim", False):
        step.set([Axis(1) if axis in gone else dim for axis, dim in enumerate(dims)])
    else:
        step.set([dim for axis, dim in enumerate(dims) if axis not in gone])


@rule("argmax", "argmin", "logsumexp", "median", "prod", "mode", "nanmean")
def reduce_jointly(step: Step) -> None:
    """Reductions that tell positions apart: the axis is frozen."""
    dims = step.dims[step.node.inputs()[0]]
    chosen = step.get("dim")
    gone = [chosen] if isinstance(chosen, int) else list(chosen) if chosen else list(range(len(dims)))
    step.stop([dims[axis] for axis in gone], "needs all positions of the axis")
    reduce(step)


@rule("linear")
def linear(step: Step) -> None:
    """y = x W' + b with W [out, in]."""
    x, weight = step.of("input"), step.of("weight")
    step.tie(x[-1], weight[1])
    if step.has("bias"):
        step.tie(step.of("bias")[0], weight[0])
        step.role("bias", "vector")
    step.role("weight", "writer", "reader")
    _contract(step, "input", len(x) - 1)
    step.note.reads[step.id("weight")] = x[-1]
    step.note.macs.append((1, (*x[:-1], weight[0], weight[1])))
    step.set([*x[:-1], weight[0]] if len(weight) == 2 else x[:-1])


@rule("addmm")
def addmm(step: Step) -> None:
    """b + x W with W [in, out], as GPT-2 stores it."""
    a, b = step.of("mat1"), step.of("mat2")
    _product(step, "mat1", "mat2")
    bias = step.of("self")
    if bias and bias[-1].size == b[-1].size:
        step.tie(bias[-1], b[-1])
        step.role("self", *[None] * (len(bias) - 1), "vector")
    step.set([a[0], b[1]])


@rule("matmul", "mm", "bmm", "mv", "dot", "baddbmm", "linalg_matmul")
def matmul(step: Step) -> None:
    """Matrix products with broadcast batch axes."""
    first, second = ("batch1", "batch2") if step.node.op.startswith("baddbmm") else _operands(step)
    step.set(_product(step, first, second))
    if step.has("batch1") and step.of("self"):
        out = step.dims[step.node.outputs[0] or 0]
        for a, b in zip(reversed(out), reversed(step.of("self"))):
            if a.size == b.size:
                step.tie(a, b)


def _operands(step: Step) -> tuple[str, str]:
    names = [name for name in step.given if step.has(name)]
    return names[0], names[1]


def _product(step: Step, first: str, second: str) -> list[Dim]:
    """Tie a matrix product of two operands; returns the dimensions of the result."""
    a, b = step.of(first), step.of(second)
    inner = b[-2] if len(b) > 1 else b[0]
    step.tie(a[-1], inner)
    _contract(step, first, len(a) - 1)
    _contract(step, second, max(len(b) - 2, 0))
    batch = _broadcast(step, a[:-2], b[:-2])
    rows, columns = list(a[-2:-1]), list(b[-1:]) if len(b) > 1 else []
    step.note.macs.append((1, (*batch, *rows, *columns, a[-1])))
    if _is_weight(step, second) and len(b) == 2:
        step.role(second, "reader", "writer")
        step.note.reads[step.id(second)] = a[-1]
    elif _is_weight(step, first) and len(a) == 2:
        step.role(first, "writer", "reader")
    elif batch:
        _mark_attention(batch, [*rows, *columns, a[-1]])
    return [*batch, *rows, *columns]


def _is_weight(step: Step, name: str) -> bool:
    return step.trace.values[step.id(name)].kind in ("parameter", "buffer")


def _mark_attention(heads: Sequence[Dim], inner: Sequence[Dim]) -> None:
    for dim in heads:
        mark(dim, "head")
    for dim in inner:
        mark(dim, "dim")


def _contract(step: Step, name: str, axis: int) -> None:
    step.note.contracted.append((step.id(name), axis))


def _broadcast(step: Step, a: Sequence[Dim], b: Sequence[Dim]) -> list[Dim]:
    made: list[Dim] = []
    for back in range(1, max(len(a), len(b)) + 1):
        x = a[-back] if back <= len(a) else Axis(1)
        y = b[-back] if back <= len(b) else Axis(1)
        if x.size > 1 and y.size > 1:
            step.tie(x, y)
        made.insert(0, x if x.size > 1 else y)
    return made


@rule("einsum")
def einsum(step: Step) -> None:
    """Equal letters are tied; letters missing from the output are summed over."""
    equation = str(step.get("equation")).replace(" ", "")
    if "->" not in equation or "." in equation:
        return
    left, right = equation.split("->")
    letters: dict[str, Dim] = {}
    for value, labels in zip(step.list("tensors"), left.split(",")):
        for axis, letter in enumerate(labels):
            dim = step.dims[value][axis]
            if dim.size > 1 and letters.get(letter, dim).size > 1:
                step.tie(letters.setdefault(letter, dim), dim)
            elif dim.size > 1:
                letters[letter] = dim
            letters.setdefault(letter, dim)
            if letter not in right:
                step.note.contracted.append((value, axis))
    step.note.macs.append((1, tuple(letters.values())))
    _einsum_marks(step, left.split(","), right, letters)
    step.set([letters[letter] for letter in right])


def _einsum_marks(step: Step, terms: list[str], right: str, letters: dict[str, Dim]) -> None:
    weights = [step.trace.values[value].kind in ("parameter", "buffer") for value in step.list("tensors")]
    if len(terms) == 2 and not any(weights):
        shared = set(terms[0]) & set(terms[1]) & set(right)
        _mark_attention([letters[x] for x in shared], [letters[x] for x in letters if x not in shared])
    for value, labels, weight in zip(step.list("tensors"), terms, weights):
        for axis, letter in enumerate(labels):
            if weight and len(labels) > 1 and (value, axis) not in step.roles:
                step.roles[(value, axis)] = "writer" if letter in right else "reader"


@rule("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
def conv(step: Step) -> None:
    """Convolution with w [out, in / groups, taps]: plain, depthwise or grouped."""
    if step.get("transposed", False):
        conv_transpose(step)
        return
    x, weight = step.of("input"), step.of("weight")
    axis = len(x) - len(weight) + 1
    channels, groups = x[axis], step.get("groups", 1)
    step.role("weight", "writer", "reader")
    if groups == 1:
        step.tie(channels, weight[1])
    elif groups == channels.size:
        _depthwise(step, channels, weight)
    else:
        block, inner = split(channels, weight[1].size, step.why)
        step.tie(inner, weight[1])
        step.tie(block, split(weight[0], weight[0].size // groups, step.why)[0])
        mark(block, "block")
        step.note.literals["groups"] = block
    _bias(step, weight[0])
    spatial = [step.fixed(size, "spatial axis") for size in step.shape()[axis + 1 :]]
    _contract(step, "input", axis)
    step.note.reads[step.id("weight")] = channels
    taps = prod(dim.size for dim in weight[2:])
    step.note.macs.append((taps, (*x[:axis], *spatial, weight[0], weight[1])))
    step.stop([*x[axis + 1 :], *weight[2:]], "spatial axis")
    step.set([*x[:axis], weight[0], *spatial])


def _depthwise(step: Step, channels: Dim, weight: Sequence[Dim]) -> None:
    many = weight[0].size // channels.size
    step.tie(weight[0], product((channels, Axis(many))) if many > 1 else channels)
    value = step.id("weight")
    step.roles[(value, 0)] = "vector"
    step.note.literals["groups"] = channels


def _bias(step: Step, channels: Dim) -> None:
    if step.has("bias"):
        step.tie(step.of("bias")[0], channels)
        step.role("bias", "vector")


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(step: Step) -> None:
    """Transposed convolution with w [in, out / groups, taps]."""
    x, weight = step.of("input"), step.of("weight")
    axis = len(x) - len(weight) + 1
    channels, groups = x[axis], step.get("groups", 1)
    step.role("weight", "reader", "writer")
    step.tie(channels, weight[0])
    made = weight[1]
    if groups > 1:
        block, _ = split(channels, channels.size // groups, step.why)
        made = product((block, weight[1]))
        step.note.literals["groups"] = block
    _bias(step, made)
    spatial = [step.fixed(size, "spatial axis") for size in step.shape()[axis + 1 :]]
    _contract(step, "input", axis)
    step.note.reads[step.id("weight")] = channels
    taps = prod(dim.size for dim in weight[2:])
    step.note.macs.append((taps, (*x[:axis], *x[axis + 1 :], channels, weight[1])))
    step.stop([*x[axis + 1 :], *weight[2:]], "spatial axis")
    step.set([*x[:axis], made, *spatial])


@rule("embedding")
def embedding(step: Step) -> None:
    """Rows of a table: the width can be pruned, the vocabulary not."""
    table = step.of("weight")
    step.stop([table[0]], "vocabulary of an embedding")
    step.role("weight", None, "writer")
    step.set([*step.of("indices"), table[1]])


@rule("batch_norm", "instance_norm")
def batch_norm(step: Step) -> None:
    """Per-channel statistics: channel axis 1 is tied to every vector."""
    dims = step.of("input")
    for name in ("weight", "bias", "running_mean", "running_var"):
        if step.has(name):
            step.tie(dims[1], step.of(name)[0])
            step.role(name, "vector")
    step.set(dims)


@rule("layer_norm", "rms_norm")
def layer_norm(step: Step) -> None:
    """Statistics over the last axes: over a pruned axis they take the kept positions only."""
    dims = step.of("input")
    width = len(step.get("normalized_shape"))
    for name in ("weight", "bias"):
        if step.has(name):
            for a, b in zip(dims[-width:], step.of(name)):
                step.tie(a, b)
            step.role(name, *["vector"] * width)
    step.note.reduced.append((step.id("input"), tuple(range(len(dims) - width, len(dims)))))
    step.note.literals["normalized_shape"] = product(dims[-width:])
    step.set(dims)


@rule("group_norm")
def group_norm(step: Step) -> None:
    """Statistics over the channels of each group."""
    dims, groups = step.of("input"), step.get("num_groups")
    block, _ = split(dims[1], dims[1].size // groups, step.why)
    for name in ("weight", "bias"):
        if step.has(name):
            step.tie(dims[1], step.of(name)[0])
            step.role(name, "vector")
    step.note.reduced.append((step.id("input"), (1,)))
    step.note.literals["num_groups"] = block
    step.set(dims)


@rule("scaled_dot_product_attention")
def attention(step: Step) -> None:
    """Fused attention; with fewer key heads than query heads each key head serves a run of query heads."""
    query, key, value = step.of("query"), step.of("key"), step.of("value")
    step.tie(query[-1], key[-1])
    step.tie(key[-2], value[-2])
    step.stop([key[-2]], "softmax over the tokens")
    heads: list[Dim] = []
    for q, k, v in zip(query[:-2], key[:-2], value[:-2]):
        step.tie(k, v)
        if q.size != k.size and k.size > 1:
            step.tie(q, product((k, Axis(q.size // k.size))))
        elif k.size > 1:
            step.tie(q, k)
        heads.append(q if q.size > 1 else k)
    if step.get("scale") is None:
        step.stop([query[-1]], "the default scale would change with the head width")
    _mark_attention(heads, [query[-1], value[-1]])
    _attention_mask(step, [*heads, query[-2], key[-2]])
    _contract(step, "query", len(query) - 1)
    _contract(step, "key", len(key) - 1)
    rows = (*heads, query[-2], key[-2])
    step.note.macs += [(1, (*rows, query[-1])), (1, (*rows, value[-1]))]
    step.set([*heads, query[-2], value[-1]])


def _attention_mask(step: Step, scores: Sequence[Dim]) -> None:
    if not step.has("attn_mask"):
        return
    for a, b in zip(reversed(scores), reversed(step.of("attn_mask"))):
        if a.size == b.size:
            step.tie(a, b)


POOLS = [
    f"{kind}_pool{n}d{tail}"
    for n in (1, 2, 3)
    for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "_adaptive_avg")
    for tail in ("", "_with_indices")
]
UPSAMPLES = [
    f"{under}upsample_{kind}{tail}"
    for under in ("", "_")
    for kind in (
        "nearest1d",
        "nearest2d",
        "nearest3d",
        "linear1d",
        "bilinear2d",
        "bicubic2d",
        "trilinear3d",
        "nearest_exact1d",
        "nearest_exact2d",
        "bilinear2d_aa",
        "bicubic2d_aa",
    )
    for tail in ("",)
]


@rule(*POOLS, *UPSAMPLES)
def pool(step: Step) -> None:
    """Pooling and interpolation change the spatial axes only."""
    dims = step.dims[step.node.inputs()[0]]
    width = next(int(char) for char in step.node.op if char in "123")
    step.stop(dims[-width:], "spatial axis")
    step.set([*dims[:-width], *[step.fixed(size, "spatial axis") for size in step.shape()[-width:]]])


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sample(step: Step) -> None:
    """Channels pass, places are computed."""
    dims = step.of("input")
    step.stop([*dims[2:], *step.of("grid")], "sampling places")
    step.set([*dims[:2], *[step.fixed(size, "spatial axis") for size in step.shape()[2:]]])


def whole(dims: Sequence[Dim]) -> int:
    """Number of positions of several dimensions."""
    return prod(resolve(dim).size for dim in dims)
