"""Prove a cut: the smaller model computes what the dense model computes with the dropped units zeroed.

The dense reference runs the dense model operator by operator. At each operator that sums over a pruned axis the dropped
positions are set to zero; a norm or a reduction over a pruned axis takes its statistics over the kept positions.
Nothing else is touched, so a mis-wired index shows as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunus.core.errors import BadInput
from prunus.core.rng import draws_apart
from prunus.graph.attention import freed
from prunus.graph.axes import Axis, mask_of, size_of
from prunus.graph.build import Graph, Pass, tie_pass
from prunus.graph.cut import Keep, cut
from prunus.graph.record import Node, Ref, plain_attention, run, tensors_in, trace_forward, untouched
from prunus.graph.rules import Note, known
from prunus.graph.trace import taken_apart
from prunus.train.modes import forget

NORMS = ("layer_norm", "rms_norm", "group_norm")


def prove(model: nn.Module, graph: Graph, keep: Keep, inputs: Any, *, small: nn.Module | None = None) -> float:
    """Largest difference between cut(x) and the masked dense model, relative to the largest output.

    A model that draws in evaluation draws the same numbers in both.

    Args:
        model: the dense model; evaluated in eval mode and left as it was.
        graph: its graph, built with inputs of the same shape.
        keep: group name -> kept unit ids.
        inputs: example inputs, as for `build`.
        small: the cut model, if it exists already.
    """
    expected = masked_outputs(model, graph, keep, inputs)
    small = cut(model, graph, keep) if small is None else small
    with untouched(small), draws_apart(), torch.no_grad():
        forget(small)
        small.eval()
        found = list(tensors_in(run(small, inputs)))
    if len(found) != len(expected):
        raise BadInput(f"the cut model returns {len(found)} tensors, the dense model {len(expected)}")
    return max((_distance(a, b) for a, b in zip(found, expected)), default=0.0)


def _distance(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not b.numel():
        return 0.0
    a, b = a.double(), b.double()
    scale = max(float(b.abs().max()), 1e-12)
    return float((a - b).abs().max()) / scale


def masked_outputs(model: nn.Module, graph: Graph, keep: Keep, inputs: Any) -> list[Tensor]:
    """Outputs of the dense model with the dropped units zeroed at their consumers."""
    masks = graph.masks(keep)
    with untouched(model), freed(model):
        forget(model)
        model.eval()
        one = tie_pass(graph, trace_forward(model, inputs, known))
        if any(leaf.bound is not None or leaf.frozen for leaf in graph.axes.values()):
            raise BadInput("with these inputs the model ties more channels than with the inputs its graph was built on")
        forget(model)
        with draws_apart(), torch.inference_mode(), plain_attention(), Reference(one, masks):
            result = run(model, inputs)
        return [tensor.clone() for tensor in tensors_in(result)]


class Reference(TorchDispatchMode):
    """Follows the recorded operators of the dense model and masks their operands."""

    def __init__(self, recorded: Pass, masks: Mapping[Axis, np.ndarray]) -> None:
        super().__init__()
        self.recorded = recorded
        self.masks = masks
        self.sizes = {leaf: int(mask.sum()) for leaf, mask in masks.items()}
        self.index = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = func._schema.name.split("::")[1]
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if not known(op):
            with self:
                result = taken_apart(func, args, kwargs)
            if result is not NotImplemented:
                return result
        nodes = self.recorded.trace.nodes
        if op == "contiguous" and (self.index >= len(nodes) or nodes[self.index].op != op):
            return func(*args, **kwargs)  # masking may change the memory layout, so this comes and goes
        while op != "contiguous" and self.index < len(nodes) and nodes[self.index].op == "contiguous":
            self.index += 1
        if self.index >= len(nodes) or nodes[self.index].op != op:
            raise BadInput(
                f"operator {self.index} is {op}, the graph recorded "
                f"{nodes[self.index].op if self.index < len(nodes) else 'none'}: use inputs of the recorded shape"
            )
        node, note = nodes[self.index], self.recorded.notes[self.index]
        self.index += 1
        return self._call(func, node, note, args, kwargs)

    def _mask(self, value: int, axis: int) -> Tensor | None:
        mask = mask_of(self.recorded.dims[value][axis], self.masks)
        return None if mask.all() else torch.from_numpy(mask)

    def _call(self, func: Any, node: Node, note: Note, args: Any, kwargs: Any) -> Any:
        for value, axes in note.reduced:
            if any(self._mask(value, axis) is not None for axis in axes):
                if node.op in NORMS:
                    return self._norm(func, node, note, args, kwargs, axes)
                args, kwargs = _swap(node, (args, kwargs), value, lambda x, v=value, a=axes: self._select(x, v, a))
        for value, axis in note.contracted:
            mask = self._mask(value, axis)
            if mask is not None:
                args, kwargs = _swap(node, (args, kwargs), value, lambda x, m=mask, a=axis: _zero(x, m, a))
        return func(*args, **kwargs)

    def _select(self, x: Tensor, value: int, axes: tuple[int, ...]) -> Tensor:
        for axis in axes:
            mask = self._mask(value, axis)
            if mask is not None:
                x = x.index_select(axis, mask.nonzero().flatten().to(x.device))
        return x

    def _norm(self, func: Any, node: Node, note: Note, args: Any, kwargs: Any, axes: tuple[int, ...]) -> Any:
        """A norm over the kept positions, put back at their places."""
        from prunus.graph.rules import bind

        given = dict(zip([one.name for one in func._schema.arguments], args)) | kwargs
        refs = bind(node)
        dense = given["input"]
        for name in ("input", "weight", "bias"):
            ref = refs.get(name)
            if isinstance(ref, Ref) and given.get(name) is not None:
                own = axes if name == "input" else tuple(range(given[name].dim()))
                given[name] = self._select(given[name], ref.value, own)
        if "normalized_shape" in given:
            given["normalized_shape"] = list(given["input"].shape[min(axes) :])
        else:
            given["num_groups"] = size_of(note.literals["num_groups"], self.sizes)
        small = func(**given)
        out = torch.zeros_like(dense)
        places: Any = [slice(None)] * dense.dim()
        index = refs["input"].value
        keeps = [self._mask(index, axis) for axis in range(dense.dim())]
        grid = [
            keep.nonzero().flatten() if keep is not None and axis in axes else torch.arange(dense.shape[axis])
            for axis, keep in enumerate(keeps)
        ]
        places = torch.meshgrid(*[one.to(dense.device) for one in grid], indexing="ij")
        out[places] = small
        return out


def _zero(x: Tensor, mask: Tensor, axis: int) -> Tensor:
    shape = [1] * x.dim()
    shape[axis] = -1
    return x.masked_fill(~mask.to(x.device).reshape(shape), 0)


def _swap(node: Node, real: tuple[Any, Any], value: int, change: Any) -> tuple[Any, Any]:
    """Replace, in the real arguments, the tensor that stands where the recorded ones have `Ref(value)`."""
    return _walk((node.args, node.kwargs), real, value, change)


def _walk(recorded: Any, real: Any, value: int, change: Any) -> Any:
    if isinstance(recorded, Ref):
        return change(real) if recorded.value == value else real
    if isinstance(recorded, tuple) and isinstance(real, (tuple, list)):
        parts = [_walk(a, b, value, change) for a, b in zip(recorded, cast("list[Any]", real))]
        return parts if isinstance(real, list) else tuple(parts)
    if isinstance(recorded, dict):
        return {key: _walk(recorded[key], item, value, change) for key, item in cast("dict[str, Any]", real).items()}
    return real
