"""Put tensors of new sizes into a model, and make its attributes say the new sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from prunus.graph.attention import PrunedMultiheadAttention, free
from prunus.graph.axes import Axis, Dim, size_of
from prunus.graph.build import Binding, Graph

Sizes = Mapping[Axis, int]


def place(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Set a parameter, buffer or tensor attribute by its qualified name."""
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    if attribute in module._parameters:  # pyright: ignore[reportPrivateUsage]
        module._parameters[attribute] = cast("nn.Parameter", tensor)  # pyright: ignore[reportPrivateUsage]
    elif attribute in module._buffers:  # pyright: ignore[reportPrivateUsage]
        module._buffers[attribute] = tensor  # pyright: ignore[reportPrivateUsage]
    else:
        vars(module)[attribute] = tensor


def place_all(model: nn.Module, graph: Graph, make: Callable[[str, Tensor], Tensor]) -> None:
    """Replace every tensor by `make(name, tensor)`, once per tied tensor."""
    from prunus.graph.record import named_tensors

    done: list[tuple[Tensor, Tensor]] = []
    seen: dict[int, int] = {}
    for name, tensor in named_tensors(model).items():
        if name not in graph.tensors:
            continue
        number = seen.get(id(tensor))
        if number is None:
            number = seen[id(tensor)] = len(done)
            done.append((tensor, make(name, tensor)))  # holds the old tensor, so that its id stays its own
        if done[number][1] is not tensor:
            place(model, name, done[number][1])


def literal_dims(graph: Graph) -> dict[str, dict[str, Dim]]:
    """Module path -> sizes its operator was given as numbers (groups, num_groups, normalized_shape)."""
    found: dict[str, dict[str, Dim]] = {}
    for one in graph.passes:
        for node, note in zip(one.trace.nodes, one.notes):
            if note.literals:
                found.setdefault(node.module, {}).update(note.literals)
    return found


def refresh(model: nn.Module, graph: Graph, sizes: Sizes) -> None:
    """Attributes of standard layers from their tensors, then every bound attribute from the graph."""
    literals = literal_dims(graph)
    for binding in graph.bindings:
        write_attribute(model, binding, size_of(binding.dim, sizes))
    for path, module in model.named_modules():
        _attention(module, path, graph)
        _standard(module, {name: size_of(dim, sizes) for name, dim in literals.get(path, {}).items()})


def write_attribute(model: nn.Module, binding: Binding, value: int) -> None:
    """Set one bound attribute; a place inside a tuple or list replaces that entry."""
    owner: Any = model.get_submodule(binding.path)
    if binding.config:
        owner = owner.config
    if binding.place is None:
        setattr(owner, binding.attribute, value)
        return
    before = getattr(owner, binding.attribute)
    entries = [*before]
    entries[binding.place] = value
    setattr(owner, binding.attribute, type(before)(entries) if not isinstance(before, tuple) else tuple(entries))


def is_standard(module: nn.Module) -> bool:
    """True for layers whose attributes `refresh` derives from their tensors."""
    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)  # pyright: ignore[reportPrivateUsage]
    return isinstance(module, (*kinds, nn.RMSNorm, nn.Embedding, nn.PReLU)) or _is_conv1d(module)


def _is_conv1d(module: nn.Module) -> bool:
    return isinstance(getattr(module, "nf", None), int) and isinstance(getattr(module, "weight", None), Tensor)


def _attention(module: nn.Module, path: str, graph: Graph) -> None:
    """Free torch's attention where its sizes changed, and describe them."""
    if not isinstance(module, nn.MultiheadAttention):
        return
    shapes = {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}
    if any(graph.shapes.get(f"{path}.{name}" if path else name, shape) != shape for name, shape in shapes.items()):
        free(module)
    if isinstance(module, PrunedMultiheadAttention):
        module.embed_dim = shapes["out_proj.weight"][0]
        fused = shapes.get("in_proj_weight")
        module.kdim = fused[1] if fused else shapes["k_proj_weight"][1]
        module.vdim = fused[1] if fused else shapes["v_proj_weight"][1]
        module.head_dim = shapes["out_proj.weight"][1] // max(module.num_heads, 1)


def _standard(module: nn.Module, literals: dict[str, int]) -> None:
    weight = getattr(module, "weight", None) if is_standard(module) else None
    shape: tuple[int, ...] = tuple(weight.shape) if isinstance(weight, Tensor) else ()
    if isinstance(module, nn.modules.conv._ConvNd) and shape:  # pyright: ignore[reportPrivateUsage]
        module.groups = literals.get("groups", module.groups)
        ins, outs = (shape[0], shape[1] * module.groups) if module.transposed else (shape[1] * module.groups, shape[0])
        module.in_channels, module.out_channels = ins, outs
    elif isinstance(module, nn.Linear) and shape:
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):  # pyright: ignore[reportPrivateUsage]
        known = weight if weight is not None else module.running_mean
        module.num_features = known.shape[0] if known is not None else module.num_features
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        size = literals.get("normalized_shape")
        module.normalized_shape = shape or ((size,) if size else module.normalized_shape)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = literals.get("num_groups", module.num_groups)
        module.num_channels = shape[0] if shape else module.num_channels
    elif isinstance(module, nn.Embedding) and shape:
        module.num_embeddings, module.embedding_dim = shape
    elif isinstance(module, nn.PReLU) and shape:
        module.num_parameters = shape[0]
    elif shape and _is_conv1d(module):
        vars(module)["nf"] = shape[1]
        vars(module).update({"nx": shape[0]} if hasattr(module, "nx") else {})
