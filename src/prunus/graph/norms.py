"""Rules of norms, fused attention, pooling and interpolation."""

from __future__ import annotations

from collections.abc import Sequence

from prunus.graph.axes import Axis, Dim, product, split
from prunus.graph.compute import contract, mark_attention
from prunus.graph.rules import Role, Step, rule


@rule("batch_norm", "instance_norm")
def batch_norm(step: Step) -> None:
    """Per-channel statistics: channel axis 1 is tied to every vector."""
    dims = step.of("input")
    for name in ("weight", "bias", "running_mean", "running_var"):
        if step.has(name):
            step.tie(dims[1], step.of(name)[0])
            step.role(name, "vector")
    step.set(dims)


def _vectors(width: int) -> list[Role]:
    return ["vector" for _ in range(width)]


@rule("layer_norm", "rms_norm")
def layer_norm(step: Step) -> None:
    """Statistics over the last axes: over a pruned axis they take the kept positions only."""
    dims = step.of("input")
    width = len(step.get("normalized_shape"))
    for name in ("weight", "bias"):
        if step.has(name):
            for a, b in zip(dims[-width:], step.of(name)):
                step.tie(a, b)
            step.role(name, *_vectors(width))
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
    mark_attention(heads, [query[-1], value[-1]])
    _attention_mask(step, [*heads, query[-2], key[-2]])
    contract(step, "query", len(query) - 1)
    contract(step, "key", len(key) - 1)
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
