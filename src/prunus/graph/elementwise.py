"""Rules of elementwise operators and reductions."""

from __future__ import annotations

from prunus.graph.axes import Axis, Dim, split
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
