"""From a model and example inputs to its graph: the dimensions of every tensor, tied by every operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from prunus.core.prunable import Group
from prunus.core.rng import draws_apart
from prunus.graph import compute as _compute
from prunus.graph import elementwise as _elementwise
from prunus.graph import movement as _movement
from prunus.graph import norms as _norms
from prunus.graph import recurrent as _recurrent
from prunus.graph import views as _views
from prunus.graph.axes import Axis, Dim, freeze, leaves, mask_of, resolve
from prunus.graph.record import Trace, Twin, named_tensors, real_twin, record
from prunus.graph.rules import Note, Role, apply_rule, known

_RULE_FILES = (_compute, _elementwise, _movement, _norms, _recurrent, _views)  # importing them fills the table of rules


@dataclass(slots=True)
class Binding:
    """A size held in an attribute of a module or its config: `attribute` follows the size of `dim`."""

    path: str
    attribute: str
    place: int | None
    config: bool
    old: int
    dim: Dim


@dataclass(slots=True)
class Pass:
    """One recorded pass with the dimensions of all its tensors."""

    trace: Trace
    dims: list[list[Dim]]
    notes: list[Note]


@dataclass(slots=True)
class Graph:
    """What is tied to what in one model.

    Attributes:
        groups: the units that can be dropped, by group.
        axes: group name -> its leaf in the algebra.
        tensors: qualified name -> dimensions of every parameter, buffer and tensor attribute (ties under each name).
        names: value id of the evaluation pass -> its canonical tensor name.
        frozen: (parameter, axis) -> why nothing of it can be dropped.
        unseen: parameters that no recorded operator read.
        reads: parameter -> dimension of the module input that it reads.
        bindings: attributes that follow a size.
    """

    passes: list[Pass]
    tensors: dict[str, list[Dim]]
    shapes: dict[str, tuple[int, ...]]
    roles: dict[tuple[str, int], Role]
    parameters: dict[str, str]
    classes: dict[str, str]
    fake: bool = True
    groups: tuple[Group, ...] = ()
    axes: dict[str, Axis] = field(default_factory=dict)
    frozen: dict[tuple[str, int], str] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    bindings: list[Binding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reads: dict[str, Dim] = field(default_factory=dict)

    @property
    def main(self) -> Pass:
        """The evaluation pass: what is counted and proved."""
        return self.passes[0]

    def masks(self, keep: Mapping[str, np.ndarray]) -> dict[Axis, np.ndarray]:
        """Kept unit ids by group name -> kept mask by leaf."""
        made: dict[Axis, np.ndarray] = {}
        for name, ids in keep.items():
            leaf = self.axes[name]
            made[leaf] = np.zeros(leaf.size, dtype=bool)
            made[leaf][np.asarray(ids, dtype=np.int64)] = True
        return made

    def kept(self, name: str, masks: Mapping[Axis, np.ndarray]) -> list[np.ndarray]:
        """Kept mask of every axis of a named tensor."""
        return [mask_of(dim, masks) for dim in self.tensors[name]]


def build(model: nn.Module, example: Any, *, fake: bool = True) -> Graph:
    """Record a model and tie its dimensions.

    Args:
        model: left as it was.
        example: a tensor, a tuple of arguments or a dict of keywords.
        fake: try a pass without data first; models that need data run for real anyway.

    Raises `BadInput` if the forward fails on the example.
    """
    from prunus.graph.groups import assemble
    from prunus.graph.literals import settle

    trace, twin = record(model, example, known, fake)
    graph = _empty(model, trace, trace.fake)
    _tie(graph, trace)
    if twin is not None and twin.mode is not None and _missing(graph):
        _add_training(graph, twin, model, example)
    graph.unseen = tuple(sorted(_missing(graph)))
    _freeze_unseen(graph)
    settle(graph, twin)
    assemble(graph)
    return graph


def _empty(model: nn.Module, trace: Trace, fake: bool) -> Graph:
    tensors = named_tensors(model)
    first: dict[int, str] = {}
    canonical = {
        name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()
    }  # all alive: ids are safe
    dims: dict[str, list[Dim]] = {}
    for name, tensor in tensors.items():
        dims[name] = dims[canonical[name]] if canonical[name] in dims else [Axis(size) for size in tensor.shape]
    trainable = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return Graph(
        passes=[],
        tensors=dims,
        shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        roles={},
        parameters={name: canonical[name] for name in tensors if name in trainable},
        classes={path: type(module).__name__ for path, module in model.named_modules(remove_duplicate=False)},
        fake=fake,
    )


def _tie(graph: Graph, trace: Trace) -> None:
    """Tie a pass into the graph and keep it."""
    graph.passes.append(tie_pass(graph, trace))


def tie_pass(graph: Graph, trace: Trace) -> Pass:
    """Dimensions of every tensor of a pass over the graph's parameters."""
    dims: list[list[Dim]] = [[] for _ in trace.values]
    for number, value in enumerate(trace.values):
        if value.name in graph.tensors:
            dims[number] = graph.tensors[value.name]
        elif value.kind != "computed":
            text = "model input" if value.kind == "input" else "tensor made outside the recorded operators"
            dims[number] = [Axis(size, text) for size in value.shape]
    roles: dict[tuple[int, int], Role] = {}
    origins: dict[int, int] = {}
    notes = [apply_rule(node, trace, dims, roles, origins) for node in trace.nodes]
    for value in trace.outputs:
        for dim in dims[value]:
            freeze(dim, "declared output of the model")
    for (value, axis), role in roles.items():
        name = trace.values[value].name
        if name and graph.roles.get((name, axis), "vector") == "vector":
            graph.roles[(name, axis)] = role
    for note in notes:
        for value, dim in note.reads.items():
            graph.reads.setdefault(trace.values[value].name, dim)
    _roles_of_ties(graph, trace)
    return Pass(trace, dims, notes)


def _roles_of_ties(graph: Graph, trace: Trace) -> None:
    """A tied tensor plays, under each of its names, the role of the module that owns the name."""
    for node in trace.nodes:
        for value in node.inputs():
            canonical = trace.values[value].name
            own = next((n for n, v in trace.tensors.items() if v == value and n.rpartition(".")[0] == node.module), "")
            if not own or own == canonical or len(graph.shapes[own]) < 2:  # a tied bias stays a vector
                continue
            if node.op == "linear":
                graph.roles[(own, 0)], graph.roles[(own, 1)] = "writer", "reader"
                graph.reads.setdefault(own, dims_of(graph, own))
            elif node.op == "embedding":
                graph.roles[(own, 1)] = "writer"


def dims_of(graph: Graph, name: str) -> Dim:
    """Input dimension of a linear weight."""
    return graph.tensors[name][1]


def _missing(graph: Graph) -> set[str]:
    seen = {graph.parameters.get(name, name) for one in graph.passes for name in one.trace.seen()}
    return {name for name, canonical in graph.parameters.items() if canonical not in seen and name == canonical}


def _add_training(graph: Graph, twin: Twin, model: nn.Module, example: Any) -> None:
    """Branches that only run in training (auxiliary heads, masked inputs) are tied too.

    Where shapes alone don't tell which way training goes (layers that are dropped at random), a real copy is tried.
    """
    failed = _train_once(graph, twin)
    if failed is not None:
        real = real_twin(model, example)
        failed = failed if real is None else _train_once(graph, real)
    if failed is not None:
        graph.notes.append(f"the training pass could not be recorded: {type(failed).__name__}: {failed}")


def _train_once(graph: Graph, twin: Twin) -> Exception | None:
    """Tie a training pass of the copy; what went wrong, as it is a bonus: targets may be missing, or one image too few for a norm."""
    twin.model.train()
    try:
        with draws_apart():
            trace = twin.trace(known)
        _tie(graph, trace)
    except Exception as error:  # the model's own code runs here
        return error
    finally:
        twin.model.eval()
    return None


def _freeze_unseen(graph: Graph) -> None:
    """Axes that an unseen parameter may share, judged by their length, stay whole."""
    lengths: dict[int, str] = {}
    for name in graph.unseen:
        for dim in graph.tensors[name]:
            lengths.setdefault(dim.size, name)
            freeze(dim, "parameter that no recorded operator reads")
    lengths.pop(1, None)
    for dims in graph.tensors.values():
        for dim in dims:
            if dim.size in lengths:
                freeze(dim, f"may be shared with {lengths[dim.size]}, which no recorded operator reads")


def changed_leaves(dims: list[Dim], masks: Mapping[Axis, Any]) -> list[Axis]:
    """Leaves of some dimensions that a choice of kept units changes."""
    found: dict[Axis, None] = {}
    for dim in dims:
        for leaf in leaves(resolve(dim)):
            if leaf in masks:
                found[leaf] = None
    return list(found)
