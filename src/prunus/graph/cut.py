"""Cut a model: a really smaller module of the user's own classes, with the same state-dict keys."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, UnknownName
from prunus.graph.axes import Axis
from prunus.graph.build import Graph
from prunus.graph.record import named_tensors
from prunus.graph.resize import place_all, refresh
from prunus.train.copies import copied
from prunus.train.modes import forget

Keep = Mapping[str, np.ndarray]


def cut(model: nn.Module, graph: Graph, keep: Keep, *, inplace: bool = False) -> nn.Module:
    """The model with only the kept units.

    Args:
        model: the module the graph was built from (same shapes).
        graph: its graph.
        keep: group name -> sorted kept unit ids, int64; groups that are not named stay whole.
        inplace: consume `model` instead of copying what stays.

    Returns: a module of the same classes; parameters keep dtype, device, requires_grad and ties.
    Raises `BadInput` for unknown groups, ids out of range, an empty group, or a model of other shapes.
    """
    check_keep(graph, keep)
    check_model(model, graph)
    masks = graph.masks(keep)
    if not inplace:
        model = _copy_cut(model, graph, masks)
    else:
        place_all(model, graph, lambda name, tensor: sliced(graph, masks, name, tensor))
    refresh(model, graph, {leaf: int(mask.sum()) for leaf, mask in masks.items()})
    forget(model)
    return model


def check_keep(graph: Graph, keep: Keep) -> None:
    """Refuse names and ids that the graph does not have."""
    for name, ids in keep.items():
        leaf = graph.axes.get(name)
        if leaf is None:
            raise UnknownName("group", name, graph.axes)
        array = np.asarray(ids)
        if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
            raise BadInput(f"group {name}: kept ids must be a non-empty 1-d integer array, got shape {array.shape}")
        if array.min() < 0 or array.max() >= leaf.size or np.any(np.diff(array) <= 0):
            raise BadInput(f"group {name}: kept ids must be sorted, unique and within 0..{leaf.size - 1}")


def check_model(model: nn.Module, graph: Graph) -> None:
    """Refuse a model whose tensors are not those the graph was built from."""
    shapes = {name: tuple(tensor.shape) for name, tensor in named_tensors(model).items()}
    for name, shape in graph.shapes.items():
        if name in graph.parameters and shapes.get(name) != shape:
            raise BadInput(
                f"{name} has shape {shapes.get(name)}, the graph was built for {shape}: build the graph of this model"
            )


def sliced(graph: Graph, masks: Mapping[Axis, np.ndarray], name: str, tensor: Tensor) -> Tensor:
    """The kept part of one named tensor; the same object if all of it stays."""
    data = tensor.detach()
    for axis, kept in enumerate(graph.kept(name, masks)):
        if not kept.all():
            data = data.index_select(axis, torch.from_numpy(np.flatnonzero(kept)).to(data.device))
    if data.shape == tensor.shape:
        return tensor
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data.contiguous(), requires_grad=tensor.requires_grad)
    return data.contiguous()


def _copy_cut(model: nn.Module, graph: Graph, masks: Mapping[Axis, np.ndarray]) -> nn.Module:
    """Deepcopy in which the cut tensors take the place of the dense ones, so the peak is dense + cut."""
    memo: dict[int, object] = {}
    for name, tensor in named_tensors(model).items():
        if name in graph.tensors and id(tensor) not in memo:
            part = sliced(graph, masks, name, tensor)
            if part is not tensor:
                memo[id(tensor)] = part
    return copied(model, memo)
