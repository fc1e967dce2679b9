"""Rules of the contractions: linear layers, matrix products, convolutions, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from prunus.graph.axes import Axis, Dim, mark, product, split
from prunus.graph.rules import Step, rule


@rule("linear")
def linear(step: Step) -> None:
    """y = x W' + b with W [out, in]."""
    x, weight = step.of("input"), step.of("weight")
    step.tie(x[-1], weight[1])
    if step.has("bias"):
        step.tie(step.of("bias")[0], weight[0])
        step.role("bias", "vector")
    step.role("weight", "writer", "reader")
    contract(step, "input", len(x) - 1)
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
    contract(step, first, len(a) - 1)
    contract(step, second, max(len(b) - 2, 0))
    batch = _broadcast(step, a[:-2], b[:-2])
    rows, columns = list(a[-2:-1]), list(b[-1:]) if len(b) > 1 else []
    step.note.macs.append((1, (*batch, *rows, *columns, a[-1])))
    if _is_weight(step, second) and len(b) == 2:
        step.role(second, "reader", "writer")
        step.note.reads[step.id(second)] = a[-1]
    elif _is_weight(step, first) and len(a) == 2:
        step.role(first, "writer", "reader")
    elif batch:
        mark_attention(batch, [*rows, *columns, a[-1]])
    return [*batch, *rows, *columns]


def _is_weight(step: Step, name: str) -> bool:
    return step.trace.values[step.id(name)].kind in ("parameter", "buffer")


def mark_attention(heads: Sequence[Dim], inner: Sequence[Dim]) -> None:
    """Name the axes of a product of two activations: heads, and what is inside a head."""
    for dim in heads:
        mark(dim, "head")
    for dim in inner:
        mark(dim, "dim")


def contract(step: Step, name: str, axis: int) -> None:
    """Note that the operator sums over an axis of an operand."""
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
        mark_attention([letters[x] for x in shared], [letters[x] for x in letters if x not in shared])
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
    contract(step, "input", axis)
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
    contract(step, "input", axis)
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
